package franz

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// refuseLater returns a function that makes cluster refuse batches of a topic in
// which a record is dated too far ahead, as Kafka does.
func refuseLater(cluster *kfake.Cluster) func(topic string, ahead time.Duration) {
	var limits sync.Map
	return func(topic string, ahead time.Duration) {
		if _, there := limits.Swap(topic, ahead); there {
			return
		}
		refuseRecords(cluster, kerr.InvalidTimestamp, true, func(of string, b kmsg.RecordBatch, r kmsg.Record) bool {
			return of == topic && time.UnixMilli(b.FirstTimestamp+r.TimestampDelta64).After(time.Now().Add(ahead))
		})
	}
}

// refuseRecords makes cluster refuse each batch that holds a bad record, and for the time being
// the others of its request.
func refuseRecords(cluster *kfake.Cluster, err *kerr.Error, names bool, bad func(topic string, b kmsg.RecordBatch, r kmsg.Record) bool) {
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		refused := false
		for _, topic := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition = p.Partition
				for _, i := range badRecords(topic.Topic, p.Records, bad) {
					refused = true
					rp.ErrorCode, rp.BaseOffset = err.Code, -1
					if names {
						re := kmsg.NewProduceResponseTopicPartitionErrorRecord()
						re.RelativeOffset = int32(i)
						rp.ErrorRecords = append(rp.ErrorRecords, re)
					}
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		for i := range resp.Topics { // nothing of a refused request is stored
			for j := range resp.Topics[i].Partitions {
				if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
					p.ErrorCode = kerr.NotEnoughReplicas.Code
				}
			}
		}
		return resp, nil, refused
	})
}

func badRecords(topic string, raw []byte, isBad func(string, kmsg.RecordBatch, kmsg.Record) bool) (bad []int) {
	var b kmsg.RecordBatch
	if b.ReadFrom(raw) != nil {
		return nil
	}
	rest := b.Records
	for i := range int(b.NumRecords) {
		length, n := kbinVarint(rest)
		var r kmsg.Record
		if r.ReadFrom(rest[:n+length]) == nil && isBad(topic, b, r) {
			bad = append(bad, i)
		}
		rest = rest[n+length:]
	}
	return bad
}

func kbinVarint(b []byte) (value, n int) {
	var u uint64
	for shift := 0; ; shift += 7 {
		u |= uint64(b[n]&0x7f) << shift
		n++
		if b[n-1] < 0x80 {
			return int(u>>1) ^ -int(u&1), n
		}
	}
}

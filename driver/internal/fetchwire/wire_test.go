package fetchwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var id = [16]byte{1, 2, 3}

// request makes a fetch of two partitions in a version.
func request(version int16) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(version)
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = "orders", id
	for p := range int32(2) {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.CurrentLeaderEpoch = p, int64(100+p), 7
		topic.Partitions = append(topic.Partitions, rp)
	}
	req.Topics = append(req.Topics, topic)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("c")).AppendRequest(nil, req, 42)
}

// answer makes the answer to it, without its head.
func answer(version int16) []byte {
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(version)
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic, topic.TopicID = "orders", id
	for p := range int32(2) {
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.Partition, rp.HighWatermark, rp.LastStableOffset = p, 200, 150
		rp.AbortedTransactions = append(rp.AbortedTransactions, kmsg.NewFetchResponseTopicPartitionAbortedTransaction())
		rp.RecordBatches = bytes.Repeat([]byte{byte('a' + p)}, 5000)
		topic.Partitions = append(topic.Partitions, rp)
	}
	resp.Topics = append(resp.Topics, topic)
	return resp.AppendTo(nil)
}

func name(version int16) []byte {
	if version >= withIDs {
		return id[:]
	}
	return []byte("orders")
}

// An examiner writes down what it sees, and changes the records.
type examiner struct {
	asked    []Asked
	answered []Answered
}

func (e *examiner) Asked(a Asked) { e.asked = append(e.asked, a) }

func (e *examiner) Answered(answer []byte, version int16) {
	EachAnswered(answer, version, func(a Answered) {
		e.answered = append(e.answered, a)
		a.Records[0] = 'X'
	})
}

// TestConnShowsFetches checks every version that has record batches, and both ways in which
// clients read.
func TestConnShowsFetches(t *testing.T) {
	for version := int16(4); version <= 17; version++ {
		for reading, head := range map[Reading]int{HeadFirst: headOfAnswer, LengthFirst: lengthOfRequest} {
			t.Run(fmt.Sprintf("version %d, %d bytes first", version, head), func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				defer far.Close()
				seen := &examiner{}
				conn := New(near, seen, reading)
				body := binary.BigEndian.AppendUint32(nil, 42)
				if version >= flexible {
					body = append(body, 0)
					if reading == HeadFirst {
						head++
					}
				}
				body = append(body, answer(version)...)
				whole := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
				go func() {
					_, _ = io.ReadFull(far, make([]byte, len(request(version))))
					_, _ = far.Write(whole)
				}()
				_, err := conn.Write(request(version))
				require.NoError(t, err)
				got := make([]byte, len(whole))
				_, err = io.ReadFull(conn, got[:head])
				require.NoError(t, err)
				_, err = io.ReadFull(conn, got[head:])
				require.NoError(t, err)
				assert.Equal(t, []Asked{{name(version), 0, 100}, {name(version), 1, 101}}, seen.asked)
				if assert.Len(t, seen.answered, 2) {
					for p, a := range seen.answered {
						assert.Equal(t, Answered{Topic: name(version), ID: int32(p), End: 200, Stable: 150, Records: a.Records}, a)
						assert.Len(t, a.Records, 5000)
					}
				}
				assert.Equal(t, 2, bytes.Count(got, []byte{'X'}), "changes that the client gets")
			})
		}
	}
}

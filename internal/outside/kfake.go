package outside

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxMetadataBytes is Kafka's offset.metadata.max.bytes. Kfake has no limit.
const maxMetadataBytes = 4096

// LimitMetadata makes a kfake refuse metadata of commits that is longer than Kafka allows.
// Unlike Kafka it stores no other position of such a commit: it answers
// COORDINATOR_LOAD_IN_PROGRESS, which a driver retries.
func LimitMetadata(cluster *kfake.Cluster) {
	cluster.ControlKey(kmsg.OffsetCommit.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		refused := false
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.CoordinatorLoadInProgress.Code
				if p.Metadata != nil && len(*p.Metadata) > maxMetadataBytes {
					rp.ErrorCode, refused = kerr.OffsetMetadataTooLarge.Code, true
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, refused
	})
}

package sarama

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
)

// A position is moved, and the answer to that is lost: the gap is told all the
// same. The first commit of the new position is answered with an error, and is
// then made by the test in the member's name.
func TestGapIsToldAlsoWhenItsCommitWasAppliedUnheard(t *testing.T) {
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
	admin, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MaxVersions(kversion.V2_8_0())) // topics by name
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ctx := within(t, patienceTest)
	commitOffset(ctx, t, admin, kmsg.OffsetCommitRequest{Group: "g", Generation: -1}, 3)
	deleteBelow(ctx, t, admin, 10)

	var applied atomic.Bool
	refused := make(chan kmsg.OffsetCommitRequest, 1)
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.RequestTimedOut, Count: -1,
		When: func(r kmsg.Request) bool {
			commit := r.(*kmsg.OffsetCommitRequest)
			p := commit.Topics[0].Partitions[0]
			if p.Metadata != nil && *p.Metadata == "by the test" || p.Offset != 10 || applied.Load() {
				return false
			}
			select {
			case refused <- *commit:
			default:
			}
			return true
		},
	})

	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.OutOfRange = driver.OutOfRangeOldest
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	var commit kmsg.OffsetCommitRequest
	select {
	case commit = <-refused:
	case <-time.After(patienceTest):
		t.Fatal("the position was not moved")
	}
	commitOffset(ctx, t, admin, commit, 10)
	applied.Store(true)
	r.waitRecords(t, 10)

	r.mu.Lock()
	defer r.mu.Unlock()
	var told []driver.DataLossError
	for _, err := range r.errs {
		var gap *driver.DataLossError
		if errors.As(err, &gap) {
			told = append(told, *gap)
		}
	}
	if want := (driver.DataLossError{Topic: "t", From: 3, To: 10, Begin: 10, End: 20}); len(told) != 1 || told[0] != want {
		t.Errorf("told of %+v, want %+v once", told, want)
	}
}

// TestOutOfRangeOfAReplicaAloneIsTold: who answers a fetch says that the position
// is not in the log, and the leader, asked between two sessions, that it is.
func TestOutOfRangeOfAReplicaAloneIsTold(t *testing.T) {
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 2})
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.OutOfRange = driver.OutOfRangeOldest
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.waitRecords(t, 10)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) == 0 {
		t.Fatal("nothing was told")
	}
	for _, err := range r.errs {
		var de *driver.Error
		if !errors.As(err, &de) || de.Code != "OFFSET_OUT_OF_RANGE" {
			t.Errorf("told %v, want OFFSET_OUT_OF_RANGE", err)
		}
	}
}

// commitOffset commits offset for partition 0 of t in the name of by.
func commitOffset(ctx context.Context, t *testing.T, client *kgo.Client, by kmsg.OffsetCommitRequest, offset int64) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID = by.Group, by.Generation, by.MemberID
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = offset, kmsg.StringPtr("by the test")
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = "t", []kmsg.OffsetCommitRequestTopicPartition{p}
	req.Topics = []kmsg.OffsetCommitRequestTopic{topic}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

// deleteBelow removes the records of partition 0 of t below offset.
func deleteBelow(ctx context.Context, t *testing.T, client *kgo.Client, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = offset
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = "t", []kmsg.DeleteRecordsRequestTopicPartition{p}
	req.Topics = []kmsg.DeleteRecordsRequestTopic{topic}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

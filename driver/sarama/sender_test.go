package sarama

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// TestSenderUnderRandomAnswers has brokers give whatever answer, lose connections
// and move leaders, and judges by the log: what was acknowledged lies there once,
// where it was said to lie; what certainly failed does not; nothing lies twice; and
// each partition is in order.
func TestSenderUnderRandomAnswers(t *testing.T) {
	const rounds = 8
	for range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { sendUnderRandomAnswers(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func sendUnderRandomAnswers(t *testing.T, rnd *rand.Rand) {
	const partitions, n = 3, 3000
	h, cluster := fakeHarness(t, kfake.NumBrokers(2), kfake.SeedTopics(partitions, "r"))
	cfg := producerConfig(h.brokers)
	cfg.MaxRetries, cfg.RetryBackoff = 1+rnd.IntN(6), time.Millisecond
	if rnd.IntN(2) == 0 {
		cfg.DeliveryTimeout = time.Duration(20+rnd.IntN(2000)) * time.Millisecond
	}
	p := openProducer(t, cfg)
	answers := newAcks()
	messages := make([]*driver.Message, n)
	for i := range messages {
		if i%200 == 0 {
			disturb(rnd, h, cluster, partitions)
		}
		if i%50 == 0 {
			time.Sleep(time.Duration(rnd.IntN(4)) * time.Millisecond)
		}
		messages[i] = &driver.Message{Topic: "r", Partition: int32(i % partitions), Value: fmt.Appendf(nil, "%06d", i), Acker: ack{answers, i}}
		require.NoError(t, p.Produce(within(t, patienceTest), messages[i]))
	}
	require.NoError(t, p.Flush(within(t, patienceTest)))
	at := logged(t, h, partitions)
	stored, certain := 0, 0
	for i, m := range messages {
		got := answers.of(i)
		require.Len(t, got, 1, "acknowledgements of message %d", i)
		offset, there := at[string(m.Value)]
		switch {
		case got[0] == nil:
			stored++
			require.True(t, there, "message %d was acknowledged, and is not in the log", i)
			require.Contains(t, []int64{offset, -1}, m.Offset, "where message %d lies", i)
		case !errors.Is(got[0], driver.ErrUnknownOutcome):
			certain++
			require.False(t, there, "message %d failed with %v, and is in the log", i, got[0])
		}
	}
	t.Logf("%d stored, %d certainly failed, %d unknown", stored, certain, n-stored-certain)
	require.NoError(t, send(t, p, &driver.Message{Topic: "r", Partition: 0, Value: []byte("last")}), "what comes after")
}

// logged returns the offset of each value in the log, which must be in order.
func logged(t *testing.T, h *harness, partitions int32) map[string]int64 {
	t.Helper()
	at := map[string]int64{}
	for id := range partitions {
		records, err := h.Read(t.Context(), "r", id)
		require.NoError(t, err)
		last := ""
		for _, r := range records {
			require.Less(t, last, string(r.Value), "partition %d is out of order, or holds a record twice", id)
			last = string(r.Value)
			at[last] = r.Offset
		}
	}
	return at
}

// disturb makes one or a few of the next requests fail somehow.
func disturb(rnd *rand.Rand, h *harness, cluster *kfake.Cluster, partitions int32) {
	faults := []*kerr.Error{
		kerr.RequestTimedOut, kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend,
		kerr.MessageTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.CorruptMessage,
	}
	switch k := rnd.IntN(len(faults) + 3); {
	case k < len(faults):
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: faults[k], Count: 1 + rnd.IntN(4)})
	case k == len(faults):
		h.gate.cut()()
	case k == len(faults)+1:
		_ = cluster.MoveTopicPartition("r", rnd.Int32N(partitions), rnd.Int32N(2))
	default:
		heal := h.gate.stall()
		time.AfterFunc(time.Duration(rnd.IntN(30))*time.Millisecond, heal)
	}
}

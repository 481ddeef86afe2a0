package franz

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// TestRealFault_C1_BesideOtherClients: a member with the defaults of Java,
// and one of ours, each own partitions; the old one leaves, and ours takes over.
func TestRealFault_C1_BesideOtherClients(t *testing.T) {
	t.Parallel()
	cluster := shared.ForTest(t)
	ours := []driver.BalanceStrategy{driver.RoundRobin, driver.Range} // the core's default
	join := func(t *testing.T, topic string) *recorder {
		cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
		cfg.Topics, cfg.Group, cfg.BalanceStrategies = []string{topic}, topic, ours
		r := newRecorder()
		start(t, Driver{}, cfg, r)
		return r
	}
	topicOf := func(t *testing.T) string {
		topic := fmt.Sprintf("shared-%d", time.Now().UnixNano())
		require.NoError(t, cluster.CreateTopic(t.Context(), topic, 4, nil))
		return topic
	}
	t.Run("Java", func(t *testing.T) {
		topic := topicOf(t)
		over := make(chan error, 1)
		go func() {
			_, err := cluster.Tool(t.Context(), "org.apache.kafka.tools.consumer.ConsoleConsumer",
				"--bootstrap-server", cluster.Bootstrap(), "--topic", topic, "--group", topic, "--timeout-ms", "8000")
			over <- err
		}()
		waitMembers(t, cluster, topic)
		r := join(t, topic)
		r.wait(t, "half of the partitions", func() bool { return len(r.live) == 2 })
		r.waitFor(t, 3*patienceTest, "all partitions", func() bool { return len(r.live) == 4 })
		t.Logf("Java's consumer: %v", <-over)
	})
}

// waitMembers waits until a group is stable, with a member.
func waitMembers(t *testing.T, cluster *kafkacluster.Cluster, group string) {
	t.Helper()
	cl, err := cluster.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		resp, err := req.RequestWith(t.Context(), cl)
		require.NoError(c, err)
		assert.NotEmpty(c, resp.Groups[0].Members)
		assert.Equal(c, "Stable", resp.Groups[0].State)
	}, 2*patienceTest, 50*time.Millisecond)
}

// TestRealFault_B2_UnreadableTopics: of three topics one may be read, one may be
// described, and one may not be seen. The latter is granted later.
func TestRealFault_B2_UnreadableTopics(t *testing.T) {
	t.Parallel()
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Security: &kafkacluster.Security{
		Users: map[string]string{"alice": "secret-alice", "bob": "secret-bob"}, SuperUsers: []string{"User:alice"},
	}})
	for _, topic := range []string{"mine", "peek", "secret"} {
		require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil))
	}
	grant(t, cluster, kmsg.ACLResourceTypeGroup, "g", kmsg.ACLOperationRead)
	grant(t, cluster, kmsg.ACLResourceTypeTopic, "mine", kmsg.ACLOperationRead)
	grant(t, cluster, kmsg.ACLResourceTypeTopic, "peek", kmsg.ACLOperationDescribe)
	cfg := consumerConfig(strings.Split(cluster.Addr("SASL_PLAINTEXT"), ","))
	cfg.SASL = &driver.SASL{Mechanism: driver.SASLPlain, User: "bob", Password: "secret-bob"}
	cfg.Topics = []string{"secret", "peek", "mine"}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the claim of what may be read", func() bool { return r.has("mine") && len(r.live) == 1 })
	r.wait(t, "the reports", func() bool { return len(r.codesOf("secret")) > 0 && len(r.codesOf("peek")) > 0 })
	grant(t, cluster, kmsg.ACLResourceTypeTopic, "secret", kmsg.ACLOperationRead)
	r.waitFor(t, time.Minute, "the claim of what was granted", func() bool { return r.has("secret") && r.has("mine") })
	select {
	case err := <-m.done:
		require.FailNow(t, "Run has returned", "%v", err)
	default:
	}

	cfg.Topics = []string{"peek"}
	alone := start(t, Driver{}, cfg, newRecorder())
	assert.ErrorIs(t, alone.ranOut(t), driver.ErrPermanent, "Run for a topic that may not be read")
}

// grant allows op to bob.
func grant(t *testing.T, cluster *kafkacluster.Cluster, kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) {
	t.Helper()
	cl, err := cluster.Client()
	require.NoError(t, err)
	defer cl.Close()
	acl := kmsg.NewCreateACLsRequestCreation()
	acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = kind, name, kmsg.ACLResourcePatternTypeLiteral
	acl.Principal, acl.Host, acl.Operation, acl.PermissionType = "User:bob", "*", op, kmsg.ACLPermissionTypeAllow
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, acl)
	resp, err := req.RequestWith(t.Context(), cl)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Results[0].ErrorCode))
}

// TestRealFault_E1_FrozenCoordinator stops the process of the coordinator, whose place
// no other broker can take, while other brokers lead the partition and records keep
// coming. Nothing is handed out once SessionTimeout has passed since the last heartbeat
// was sent that was answered, and the loss is reported within one heartbeat and a
// second more.
func TestRealFault_E1_FrozenCoordinator(t *testing.T) {
	t.Parallel()
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{
		Brokers: 3, Private: true, Properties: map[string]string{
			"offsets.topic.replication.factor": "1", "default.replication.factor": "1", "min.insync.replicas": "1",
		},
	})
	require.NoError(t, cluster.CreateTopic(t.Context(), "t", 3, nil))
	cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
	cfg.SessionTimeout = 6 * time.Second
	var handedOut, lost instants
	r := newRecorder()
	r.onRecord = func(*driver.Claim, driver.Record) { handedOut.note() }
	r.onLost = lost.note
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 3 })
	coordinator, err := cluster.Coordinator(t.Context(), "g")
	require.NoError(t, err)
	stopSending := keepSending(t, cluster, "t")
	defer stopSending()
	r.waitRecords(t, 100)

	require.NoError(t, coordinator.Pause())
	defer coordinator.Continue()
	frozen := time.Now()
	r.wait(t, "the loss", func() bool { return len(r.lost) == 3 })
	over := m.membership.lastAnswered().Add(cfg.SessionTimeout)
	time.Sleep(2 * time.Second) // what must not come
	assert.False(t, over.After(frozen.Add(cfg.SessionTimeout)), "a heartbeat is taken for answered after the coordinator froze")
	afterFreeze := handedOut.after(frozen)
	assert.NotEmpty(t, handedOut.after(frozen.Add(cfg.SessionTimeout/2)), "no records came: nothing was tested")
	for _, at := range afterFreeze {
		assert.LessOrEqual(t, at.Sub(over), 100*time.Millisecond, "handed out after the end of the session")
	}
	r.mu.Lock()
	for _, at := range lost.after(frozen) {
		assert.LessOrEqual(t, at.Sub(over), cfg.HeartbeatInterval+time.Second, "the loss was reported late")
		assert.GreaterOrEqual(t, at.Sub(over), time.Duration(0), "lost before the session was over, for %v", r.causes)
	}
	for _, cause := range r.causes {
		assert.ErrorIs(t, cause, driver.ErrMembershipLost)
	}
	assert.Empty(t, r.revoked)
	r.mu.Unlock()
	require.NoError(t, coordinator.Continue())
	r.waitFor(t, 3*patienceTest, "all claims", func() bool { return len(r.live) == 3 })
}

// An instants notes when something happened.
type instants struct {
	mu sync.Mutex
	at []time.Time
}

func (i *instants) note() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at = append(i.at, time.Now())
}

func (i *instants) after(begin time.Time) (at []time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(i.at), func(at time.Time) bool { return !at.After(begin) })
}

// keepSending sends records to all partitions of a topic, one after the other, as long
// as their leaders answer. The function that it returns ends that.
func keepSending(t *testing.T, cluster *kafkacluster.Cluster, topic string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var sends sync.WaitGroup
	for p := range int32(3) { // a leader that is frozen holds up no other
		cl, err := cluster.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
		require.NoError(t, err)
		sends.Go(func() {
			defer cl.Close()
			for ctx.Err() == nil {
				_ = cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("v")})
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		sends.Wait()
	}
}

package franz

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
)

// A harness is the driver over a cluster behind a gate. Its own client bypasses the
// gate.
type harness struct {
	outside.Client
	gate     *wiretest.Gate
	brokers  []string
	settings drivertest.Settings

	// latest makes kfake refuse later dates for a topic. It is nil for a broker that
	// can be configured to.
	latest func(topic string, ahead time.Duration)
}

var _ interface {
	drivertest.Harness
	drivertest.Tuner
	drivertest.MetadataReader
	drivertest.PositionSetter
	drivertest.SessionEnder
	drivertest.Cutter
	drivertest.Staller
	drivertest.Truncater
	drivertest.PartitionAdder
	drivertest.HoleMaker
	drivertest.TopicLimiter
	drivertest.Transactor
	drivertest.TopicRecreater
	drivertest.ForeignJoiner
	drivertest.AnswerLoser
	drivertest.ConnectionCounter
} = (*harness)(nil)

// fakeHarness is a harness over kfake.
func fakeHarness(t testing.TB, opts ...kfake.Opt) (*harness, *kfake.Cluster) {
	t.Helper()
	g := wiretest.NewGate()
	var mu sync.Mutex
	back := map[string]string{}
	cluster := fake(t, append(opts, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := wiretest.ListenGated(g, network, address)
		if err == nil {
			mu.Lock()
			back[l.Addr().String()] = l.Back()
			mu.Unlock()
		}
		return l, err
	}))...)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		addr = back[addr]
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	brokers := cluster.ListenAddrs()
	outside.LimitMetadata(cluster)
	direct := outside.Client{New: func(opts ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.Dialer(dial)}, opts...)...)
	}}
	return &harness{Client: direct, gate: g, brokers: brokers, latest: refuseLater(cluster)}, cluster
}

// CreateLimitedTopic implements drivertest.TopicLimiter.
func (h *harness) CreateLimitedTopic(ctx context.Context, topic string, partitions int32, maxBytes int, ahead time.Duration) error {
	configs := map[string]string{}
	if maxBytes > 0 {
		configs["max.message.bytes"] = strconv.Itoa(maxBytes)
	}
	switch {
	case ahead == 0:
	case h.latest != nil:
		h.latest(topic, ahead)
	default:
		configs["message.timestamp.after.max.ms"] = strconv.FormatInt(ahead.Milliseconds(), 10)
	}
	return h.CreateTopicWith(ctx, topic, partitions, configs)
}

// LoseAnswers implements drivertest.AnswerLoser.
func (h *harness) LoseAnswers(_ context.Context, topic string) (refuse func(context.Context) error, err error) {
	heal := h.gate.Mute()
	return func(ctx context.Context) error {
		defer heal()
		if err := h.SetTopicConfig(ctx, topic, "max.message.bytes", "1000"); err != nil {
			return err
		}
		large := driver.Record{Value: make([]byte, 10_000)}
		rand.Read(large.Value) // so that compression does not make it small
		for {                  // until the broker acts on it
			switch err := h.Send(ctx, topic, 0, large); {
			case errors.Is(err, kerr.MessageTooLarge):
				return nil
			case err != nil:
				return err
			}
		}
	}, nil
}

// realHarness is a harness over a real Kafka, whose clients connect through proxies.
func realHarness(t testing.TB, cfg kafkacluster.Config) (*harness, *kafkacluster.Cluster) {
	t.Helper()
	g := wiretest.NewGate()
	cfg.Advertise = func(_ int, listener, addr string) string {
		if listener != "PLAINTEXT" {
			return addr
		}
		return wiretest.Proxy(t, g, addr)
	}
	cluster := kafkacluster.ForTest(t, cfg)
	return &harness{Client: outside.Client{New: cluster.Client}, gate: g, brokers: strings.Split(cluster.Bootstrap(), ",")}, cluster
}

func (h *harness) Driver() driver.Driver         { return Driver{} }
func (h *harness) Brokers() []string             { return h.brokers }
func (h *harness) Settings() drivertest.Settings { return h.settings }

func (h *harness) Cut(context.Context) (func(), error)   { return h.gate.Cut(), nil }
func (h *harness) Stall(context.Context) (func(), error) { return h.gate.Stall(), nil }

func (h *harness) Connections(context.Context) (int, error) {
	n, _ := h.gate.Count()
	return n, nil
}

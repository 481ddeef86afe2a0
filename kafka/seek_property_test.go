package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A sought is a group whose members are moved: what the model expects of it, and what has
// happened.
type sought struct {
	t       *testing.T
	b       *memory.Broker
	cfg     kafka.ConsumerConfig
	members []*kafka.Manager
	got     offsets

	mu     sync.Mutex
	poison map[int32]map[int64]bool // records that fail

	end, position [2]int64
}

func (s *sought) handle(_ context.Context, m *kafka.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poison[m.Partition][m.Offset] {
		return errors.New("poison")
	}
	s.got.add(m)
	return nil
}

func (s *sought) join() {
	m := kafka.New(s.b, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(s.t, m.RegisterConsumer(s.t.Context(), kafka.NewConsumer(s.cfg, s.handle)))
	require.NoError(s.t, m.SetConsumerSwitch("orders", true))
	require.NoError(s.t, m.StartAllConsumers(context.Background()))
	s.members = append(s.members, m)
}

func (s *sought) leave(i int) {
	require.NoError(s.t, s.members[i].Shutdown(context.Background()))
	s.members = append(s.members[:i:i], s.members[i+1:]...)
}

// owner returns the member that owns a partition.
func (s *sought) owner(partition int32) *kafka.Manager {
	for _, m := range s.members {
		for _, p := range m.Consumers()[0].Partitions {
			if p.Topic == "orders" && p.Partition == partition {
				return m
			}
		}
	}
	return nil
}

// settle lets all come to rest, and checks what was handled since against the model: from
// the position on, up to the end or the first record that fails.
func (s *sought) settle(step string) {
	rest(time.Hour)
	for p := range int32(2) {
		to := s.position[p]
		for to < s.end[p] && !s.poison[p][to] {
			to++
		}
		assert.Equal(s.t, span(s.position[p], to), s.got.take(p), "%s: orders/%d", step, p)
		if to > 0 {
			assert.Equal(s.t, to, s.b.Committed("orders", "orders", p), "%s: the position of orders/%d", step, p)
		}
		s.position[p] = to
	}
}

// TestSeekProperty moves groups at random among sends, failures, rebalances and switches.
// Exactly the records from the new position on come again.
func TestSeekProperty(t *testing.T) {
	protocols := []func(*kafka.ConsumerConfig){
		func(*kafka.ConsumerConfig) {},
		func(cfg *kafka.ConsumerConfig) {
			cfg.BalanceStrategies = []kafka.BalanceStrategy{kafka.CooperativeSticky}
		},
		func(cfg *kafka.ConsumerConfig) { cfg.GroupProtocol = kafka.ConsumerProtocol },
	}
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &sought{t: t, b: newBroker(t, 2), cfg: orders(), poison: map[int32]map[int64]bool{0: {}, 1: {}}}
			s.cfg.Backoff = kafka.Backoff{Min: time.Second, Max: time.Minute}
			protocols[rapid.IntRange(0, 2).Draw(r, "protocol")](&s.cfg)
			defer func() {
				for len(s.members) > 0 {
					s.leave(0)
				}
			}()
			s.join()
			s.settle("the start")
			for range rapid.IntRange(1, 12).Draw(r, "steps") {
				p := rapid.Int32Range(0, 1).Draw(r, "partition")
				tp := kafka.TopicPartition{Topic: "orders", Partition: p}
				var step string
				switch step = rapid.SampledFrom([]string{"send", "send", "poison", "heal", "join", "leave", "offset", "offset", "beginning", "end", "off"}).Draw(r, "step"); step {
				case "send":
					n := rapid.IntRange(1, 5).Draw(r, "n")
					send(t, s.b, p, int(s.end[p]), int(s.end[p])+n)
					s.end[p] += int64(n)
				case "poison":
					s.mu.Lock()
					s.poison[p][s.end[p]] = true // the next one
					s.mu.Unlock()
				case "heal":
					s.mu.Lock()
					clear(s.poison[p])
					s.mu.Unlock()
				case "join":
					if len(s.members) < 3 {
						s.join()
					}
				case "leave":
					if len(s.members) > 1 {
						s.leave(rapid.IntRange(0, len(s.members)-1).Draw(r, "member"))
					}
				case "offset":
					s.position[p] = rapid.Int64Range(0, s.end[p]).Draw(r, "offset")
					require.NoError(t, s.owner(p).Seek(t.Context(), "orders", kafka.AtOffset(s.position[p]), tp))
				case "beginning":
					s.position[p] = 0
					require.NoError(t, s.owner(p).Seek(t.Context(), "orders", kafka.AtBeginning(), tp))
				case "end":
					s.position[p] = s.end[p]
					require.NoError(t, s.owner(p).Seek(t.Context(), "orders", kafka.AtEnd(), tp))
				case "off":
					for len(s.members) > 1 {
						s.leave(0)
					}
					require.NoError(t, s.members[0].SetConsumerSwitch("orders", false))
					rest(time.Minute)
					s.settleOff()
					require.NoError(t, s.members[0].Seek(t.Context(), "orders", kafka.AtBeginning()))
					require.NoError(t, s.members[0].SetConsumerSwitch("orders", true))
					s.position = [2]int64{}
				}
				s.settle(step)
			}
		})
	})
}

// settleOff forgets what was handled before a switch.
func (s *sought) settleOff() {
	for p := range int32(2) {
		assert.Empty(s.t, s.got.take(p), "orders/%d was at rest", p)
	}
}

// TestSeekStress moves a consumer while its handlers are at work. After the last seek each
// record from there on is handled, and the position reaches the end.
func TestSeekStress(t *testing.T) {
	for _, order := range []kafka.Order{kafka.OrderByPartition, kafka.OrderNone} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			const partitions, records, seeks = 2, 400, 30
			b := newBroker(t, partitions)
			for p := range int32(partitions) {
				send(t, b, p, 0, records)
			}
			var got offsets
			cfg := orders()
			cfg.Order = order
			if order == kafka.OrderNone {
				cfg.Parallelism = 8
			}
			cfg.CommitInterval = 10 * time.Millisecond
			m := newManager(t, b)
			require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(_ context.Context, m *kafka.Message) error {
				time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
				got.add(m)
				if rand.IntN(200) == 0 {
					return kafka.Retry(errors.New("again"), time.Millisecond)
				}
				return nil
			})))
			require.NoError(t, m.SetConsumerSwitch("orders", true))
			require.NoError(t, m.StartAllConsumers(context.Background()))
			require.Eventually(t, func() bool {
				s := m.Consumers()[0]
				return s.State == kafka.StateRunning && len(s.Partitions) == partitions
			}, 10*time.Second, time.Millisecond)

			var last [partitions]int64 // where the last seek led
			var since [partitions]int  // how much was handled before it
			var wg sync.WaitGroup
			for p := range int32(partitions) {
				wg.Go(func() {
					for range seeks {
						to, before := rand.Int64N(records), got.count(p)
						err := m.Seek(t.Context(), "orders", kafka.AtOffset(to), kafka.TopicPartition{Topic: "orders", Partition: p})
						if errors.Is(err, kafka.ErrNotOwned) { // between two claims
							time.Sleep(time.Millisecond)
							continue
						}
						if assert.NoError(t, err) {
							last[p], since[p] = to, before
						}
						time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
					}
				})
			}
			wg.Wait()
			for p := range int32(partitions) {
				require.Eventually(t, func() bool { return b.Committed("orders", "orders", p) == records }, 20*time.Second, time.Millisecond, "orders/%d", p)
				handled := map[int64]bool{}
				for _, o := range got.take(p)[since[p]:] {
					handled[o] = true
				}
				for o := last[p]; o < records; o++ {
					assert.True(t, handled[o], "orders/%d at offset %d, after the seek to %d", p, o, last[p])
				}
			}
		})
	}
}

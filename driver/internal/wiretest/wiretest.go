// Package wiretest has the tests that the drivers of Kafka's protocol share. Each makes a
// kfake misbehave. Package drivertest has the tests for which any broker will do.
package wiretest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// patience bounds everything that must happen.
const patience = 30 * time.Second

// A Suite is what the tests need of a driver.
type Suite struct {
	Driver driver.Driver

	// Fake returns a cluster with the topic "t" of one partition.
	Fake func(t testing.TB, opts ...kfake.Opt) *kfake.Cluster

	// Config returns the configuration of a member of the group "g" that reads "t" from
	// the oldest record.
	Config func(brokers []string) driver.ConsumerConfig

	// HeartbeatWait is how long the driver waits for the answer to a heartbeat.
	HeartbeatWait func(session, interval time.Duration) time.Duration

	// SessionExpired is why claims are lost whose member has found no coordinator for
	// the session timeout. JoinRefused is reported when a coordinator refuses to let a
	// member join, again and again, except for the codes of SpacedOut: the client itself
	// leaves time between joins that end with these.
	SessionExpired, JoinRefused error
	SpacedOut                   []*kerr.Error
}

// A member is a consumer whose Run is in progress, and its Handler.
type member struct {
	driver.Consumer
	t        *testing.T
	onRecord func(driver.Record) // called without the mutex
	ran      chan error          // what Run has returned

	mu       sync.Mutex                // guards what follows
	onRevoke func(ctx context.Context) // called without the mutex
	onLost   func()                    // called without the mutex
	changed  chan struct{}
	joins    int // calls of Assign
	assigned int // claims
	live     map[*driver.Claim]bool
	revoked  []*driver.Claim
	lost     []*driver.Claim
	causes   []error // of the losses
	records  []delivered
	errs     []error
	starts   []driver.NoPositionError
	next     map[*driver.Claim]int64
	faults   []string // violations of the order of calls
}

type delivered struct {
	claim  *driver.Claim
	offset int64
	value  string
}

// start opens a consumer and runs it until the end of the test.
func (s Suite) start(t *testing.T, cfg driver.ConsumerConfig, onRecord func(driver.Record)) *member {
	t.Helper()
	m := s.open(t, cfg)
	m.onRecord = onRecord
	m.run(m)
	return m
}

// open opens a consumer.
func (s Suite) open(t *testing.T, cfg driver.ConsumerConfig) *member {
	t.Helper()
	c, err := s.Driver.OpenConsumer(testkit.Within(t, patience), cfg)
	require.NoError(t, err)
	return &member{
		Consumer: c, t: t, ran: make(chan error, 1),
		changed: make(chan struct{}), live: map[*driver.Claim]bool{}, next: map[*driver.Claim]int64{},
	}
}

// run runs the consumer with a handler, which is m or passes the calls on to it, until the end
// of the test.
func (m *member) run(h driver.Handler) {
	m.t.Helper()
	t := m.t
	go func() { m.ran <- m.Consumer.Run(h) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, m.Close(ctx))
		assert.NoError(t, <-m.ran, "Run")
		m.mu.Lock()
		defer m.mu.Unlock()
		assert.Empty(t, m.live, "claims that never ended")
		assert.Empty(t, m.faults, "the handler was called against the contract")
	})
}

// ranOut waits until Run returns an error, and returns that.
func (m *member) ranOut(t *testing.T) error {
	t.Helper()
	select {
	case err := <-m.ran:
		m.ran <- nil
		return err
	case <-testkit.Within(t, patience).Done():
		require.FailNow(t, "Run did not return")
		return nil
	}
}

func (m *member) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

// wait waits until cond is true. It calls cond with the mutex held.
func (m *member) wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	m.waitFor(t, patience, what, cond)
}

func (m *member) waitFor(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	ctx := testkit.Within(t, d)
	for {
		m.mu.Lock()
		ok, changed := cond(), m.changed
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			require.FailNow(t, "waited without success for "+what)
		}
	}
}

// waitRecords waits until n records have been delivered, and returns the claim of the latest.
func (m *member) waitRecords(t *testing.T, n int) (latest *driver.Claim) {
	t.Helper()
	return m.waitRecordsFor(t, patience, n)
}

func (m *member) waitRecordsFor(t *testing.T, d time.Duration, n int) (latest *driver.Claim) {
	t.Helper()
	m.waitFor(t, d, "records", func() bool {
		if len(m.records) < n {
			return false
		}
		latest = m.records[len(m.records)-1].claim
		return true
	})
	return latest
}

func (m *member) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// Assign implements driver.Handler.
func (m *member) Assign(claims []*driver.Claim) {
	m.change(func() {
		m.joins++
		m.assigned += len(claims)
		for _, c := range claims {
			for other := range m.live {
				if other.Topic == c.Topic && other.Partition == c.Partition {
					m.fault("two claims of %s/%d are live", c.Topic, c.Partition)
				}
			}
			m.live[c] = true
			m.next[c] = c.Start
		}
	})
}

// Deliver implements driver.Handler.
func (m *member) Deliver(c *driver.Claim, b driver.Batch) {
	m.change(func() {
		if !m.live[c] {
			m.fault("delivery for a claim that is not live")
		}
		for _, r := range b.Records {
			if r.Offset < m.next[c] {
				m.fault("%s/%d: offset %d after %d", c.Topic, c.Partition, r.Offset, m.next[c]-1)
			}
			m.next[c] = r.Offset + 1
			m.records = append(m.records, delivered{c, r.Offset, string(r.Value)})
		}
	})
	if m.onRecord != nil {
		for _, r := range b.Records {
			m.onRecord(r)
		}
	}
}

// Revoke implements driver.Handler.
func (m *member) Revoke(ctx context.Context, claims []*driver.Claim) {
	m.mu.Lock()
	act := m.onRevoke
	m.mu.Unlock()
	if act != nil {
		act(ctx)
	}
	m.change(func() {
		if _, ok := ctx.Deadline(); !ok {
			m.fault("Revoke without a deadline")
		}
		m.end(claims)
		m.revoked = append(m.revoked, claims...)
	})
}

// Lost implements driver.Handler.
func (m *member) Lost(claims []*driver.Claim, cause error) {
	m.mu.Lock()
	act := m.onLost
	m.mu.Unlock()
	if act != nil {
		act()
	}
	m.change(func() {
		m.end(claims)
		m.lost = append(m.lost, claims...)
		m.causes = append(m.causes, cause)
	})
}

func (m *member) end(claims []*driver.Claim) {
	for _, c := range claims {
		if !m.live[c] {
			m.fault("%s/%d ended twice", c.Topic, c.Partition)
		}
		delete(m.live, c)
	}
}

// Error implements driver.Handler. It keeps starts without a position in a list of their own:
// most tests begin with such a start.
func (m *member) Error(err error) {
	m.change(func() {
		var start *driver.NoPositionError
		if errors.As(err, &start) {
			m.starts = append(m.starts, *start)
			return
		}
		m.errs = append(m.errs, err)
	})
}

package sarama

import (
	"errors"
	"fmt"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

const (
	firstCoordinatorRetry = 100 * time.Millisecond
	lastCoordinatorRetry  = time.Second
)

// A splitClient is the client of the consumer group, with connections of its own to the
// group's coordinator.
//
// It also waits for a coordinator that cannot be reached. Sarama's heartbeats give up
// after some attempts without a pause between them, so a connection that is refused for
// 20 ms would end the session.
type splitClient struct {
	ibm.Client
	coord      ibm.Client
	line       *dialer.Dialer // of coord
	membership *membership
	topics     *topics
	core       *core.Calls
	cfg        driver.ConsumerConfig
	version    ibm.KafkaVersion
	closing    <-chan struct{}        // closed when the consumer begins to close
	fail       func(error, partition) // ends Run

	mu      sync.Mutex         // guards what follows
	since   time.Time          // when the coordinator was lost; zero if it is not
	stale   bool               // the coordinator is another broker
	doubted bool               // another broker may be: this one could not be reached
	foreign map[string][]int32 // partitions of topics that only other members subscribe to
	looked  time.Time          // at foreign
}

func (s *splitClient) wrap(err error) error { return soften(wrap(err), s.cfg.SASL) }

// Coordinator implements Sarama's Client. It returns a coordinator that is connected. It
// waits for one until the coordinator has been away for the session timeout; then it ends
// the session, and waits no longer until the coordinator is back.
func (s *splitClient) Coordinator(group string) (*ibm.Broker, error) {
	if err := s.membership.paceJoins(s.line.Severed()); err != nil {
		return nil, err
	}
	for retry := firstCoordinatorRetry; ; retry = min(2*retry, lastCoordinatorRetry) {
		broker, err := s.connect(group)
		if err == nil || s.line.IsSevered() {
			s.found()
			return broker, err
		}
		if err := s.wrap(err); isPermanent(err) {
			s.fail(err, partition{ID: -1}) // Sarama would try it ten times
			return nil, err
		}
		select {
		case <-s.closing: // Sarama looks after the coordinator only to leave
			return nil, err
		default:
		}
		if s.lostFor() >= s.cfg.SessionTimeout {
			s.membership.end(&driver.Error{Code: "SESSION_TIMED_OUT", Err: fmt.Errorf("%w: %w", errSessionExpired, err)})
			return nil, err
		}
		s.core.Report(wrap(err))
		select {
		case <-time.After(retry):
		case <-s.closing:
		case <-s.line.Severed():
		}
	}
}

// connect looks the coordinator up first if its address is wrong or may be. If that only
// may be wrong, and the look-up fails, connect tries the coordinator where it was.
func (s *splitClient) connect(group string) (*ibm.Broker, error) {
	stale, doubted := s.suspicion()
	if stale || doubted {
		err := s.coord.RefreshCoordinator(group)
		if err != nil && stale {
			s.suspect()
		}
		if err != nil && (stale || isPermanent(s.wrap(err))) {
			return nil, err
		}
	}
	broker, err := s.coord.Coordinator(group)
	if err == nil {
		err = connected(broker)
	}
	if err != nil {
		s.distrust()
		return nil, err
	}
	return broker, nil
}

func connected(b *ibm.Broker) error {
	if ok, err := b.Connected(); err != nil || !ok {
		return errors.Join(err, ibm.ErrNotConnected)
	}
	return nil
}

// RefreshCoordinator implements Sarama's Client. It leaves the work to Coordinator, which
// Sarama calls next, and which waits: a heartbeat ignores an error of RefreshCoordinator
// and asks the coordinator that it had, and a join gives up after some of them.
func (s *splitClient) RefreshCoordinator(string) error {
	s.suspect()
	return nil
}

// suspicion returns, once, what is suspected of the coordinator. If it has not answered, to
// connect to it again would take as long.
func (s *splitClient) suspicion() (stale, doubted bool) {
	silent := s.line.TakeSilence()
	s.mu.Lock()
	defer s.mu.Unlock()
	stale, doubted = s.stale, s.doubted || silent
	s.stale, s.doubted = false, false
	return stale, doubted
}

func (s *splitClient) suspect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = true
}

func (s *splitClient) distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubted = true
}

func (s *splitClient) found() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Time{}
}

func (s *splitClient) lostFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = time.Now()
	}
	return time.Since(s.since)
}

// RefreshMetadata implements Sarama's Client. It tolerates partitions without a leader: the
// group is joined for the others all the same, and Sarama waits for these. It also
// tolerates any error of topics that only other members subscribe to: see
// membership_foreign.go.
func (s *splitClient) RefreshMetadata(topics ...string) error {
	ours, others := s.sort(topics)
	if len(others) > 0 {
		s.lookAt(others)
	}
	if len(ours) == 0 && len(topics) > 0 {
		return nil
	}
	err := s.Client.RefreshMetadata(ours...)
	codes := kafkaErrors(err)
	for _, k := range codes {
		if k != ibm.ErrLeaderNotAvailable {
			return err
		}
	}
	if len(codes) > 0 {
		return nil
	}
	return err
}

package sarama

import (
	"errors"
	"fmt"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	firstCoordinatorRetry = 100 * time.Millisecond
	lastCoordinatorRetry  = time.Second
)

// A splitClient is the client of the consumer group, with connections of its own
// to the group's coordinator.
//
// It also waits for a coordinator that can not be reached. Sarama's heartbeats
// give up after some attempts without a pause between them, so a connection that
// is refused for 20 ms would end the session.
type splitClient struct {
	ibm.Client
	coord ibm.Client
	c     *consumer

	mu    sync.Mutex // guards since
	since time.Time  // when the coordinator was lost; zero while it is there
}

// errSessionExpired is why a member is lost that could not reach the coordinator
// for the session timeout: by then it has been removed from the group.
var errSessionExpired = errors.New("no heartbeat within the session timeout")

// Coordinator implements Sarama's Client. It returns a coordinator that is
// connected. It waits for one until the coordinator has been away for the session
// timeout; then it ends the session, and waits no more until it is back.
func (s *splitClient) Coordinator(group string) (*ibm.Broker, error) {
	if s.c.groups.silent.Swap(false) {
		// To connect to it again would take as long.
		_ = s.coord.RefreshCoordinator(group)
	}
	for retry := firstCoordinatorRetry; ; retry = min(2*retry, lastCoordinatorRetry) {
		broker, err := s.connect(group)
		if err == nil || s.c.groups.ctx.Err() != nil {
			s.found()
			return broker, err
		}
		if err := wrap(err); isPermanent(err) {
			s.c.fail(err, partition{id: -1}) // Sarama would try it ten times
			return nil, err
		}
		select {
		case <-s.c.closing: // Sarama looks after the coordinator only to leave
			return nil, err
		default:
		}
		if s.lostFor() >= s.c.cfg.SessionTimeout {
			s.c.end(&driver.Error{Code: "SESSION_TIMED_OUT", Err: fmt.Errorf("%w: %w", errSessionExpired, err)})
			return nil, err
		}
		s.c.tell(wrap(err))
		s.c.groups.wait(retry)
		_ = s.coord.RefreshCoordinator(group) // Coordinator says why not
	}
}

func (s *splitClient) connect(group string) (*ibm.Broker, error) {
	broker, err := s.coord.Coordinator(group)
	if err != nil {
		return nil, err
	}
	if ok, err := broker.Connected(); err != nil || !ok {
		return nil, errors.Join(err, ibm.ErrNotConnected)
	}
	return broker, nil
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

// RefreshCoordinator implements Sarama's Client. It tries again, no longer than a
// session lasts: Sarama ends one after ten errors of this, one after the other.
func (s *splitClient) RefreshCoordinator(group string) error {
	began := time.Now()
	for attempt := 0; ; attempt++ {
		err := s.coord.RefreshCoordinator(group)
		if err == nil || attempt == metadataRetries || isPermanent(wrap(err)) ||
			s.c.groups.ctx.Err() != nil || time.Since(began) >= s.c.cfg.SessionTimeout {
			return err
		}
		select {
		case <-s.c.closing: // Sarama looks after the coordinator only to leave
			return err
		default:
		}
		s.c.groups.wait(metadataBackoff)
	}
}

// RefreshMetadata implements Sarama's Client. It tolerates partitions without a
// leader: the group is joined for the others all the same, and Sarama waits for
// these.
func (s *splitClient) RefreshMetadata(topics ...string) error {
	err := s.Client.RefreshMetadata(topics...)
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

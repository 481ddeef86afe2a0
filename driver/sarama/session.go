package sarama

import (
	"context"
	"fmt"
	"sync"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/position"
	"github.com/aarontianqx/gopkg/driver/internal/seek"
)

// A session serves one session of Sarama's consumer group, as its ConsumerGroupHandler. It
// lasts until the next rebalance, or with cooperative rebalancing until it is lost.
type session struct {
	c      *consumer
	end    context.CancelCauseFunc // ends it, and no other
	topics []string                // that the group is joined for
	pins   map[partition]int64     // see positions_newest.go
	eras   incarnation.Eras        // when the join began
	sess   ibm.ConsumerGroupSession

	mu        sync.Mutex // guards what follows
	revoking  int        // claims that are being revoked
	stopWatch context.CancelFunc
	reported  bool // that the membership is over
	look      *generationLook
	places    map[partition]place
	restarts  map[partition]bool // restarted, and no claim has begun since
	sought    []*seek.Call
	over      bool // and what was sought has been moved, or is about to be
}

// A generationLook is the look at the topics that the claims of one generation share.
type generationLook struct {
	generation int32
	once       sync.Once
}

// Setup implements Sarama's ConsumerGroupHandler.
func (s *session) Setup(sess ibm.ConsumerGroupSession) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("Handler.Assign: panic: %v", p)
		}
	}()
	s.sess = sess
	s.c.membership.enter(s)
	s.c.positions.forget(s.topics)
	if len(sess.Claims()) == 0 {
		s.c.core.Handler.Assign(nil)
	}
	s.mu.Lock()
	s.look = lookedIn(sess.GenerationID())
	s.mu.Unlock()
	s.c.topics.lookSoon()
	if err := s.c.positions.restartAssigned(s); err != nil {
		return err
	}
	if err := s.c.positions.pinAssigned(s); err != nil {
		return err
	}
	s.c.positions.lookBeside(s)
	return nil
}

// lookedIn returns a look that is done: the consumer has looked before it joined the generation
// in which a session begins.
func lookedIn(generation int32) *generationLook {
	l := &generationLook{generation: generation}
	l.once.Do(func() {})
	return l
}

// compareTopics ends the session if a topic is another than when the session began. It looks
// at the topics before the first claim of a generation begins that a cooperative rebalance
// has brought. Otherwise this would happen: a topic is created again; the member that has its
// partition notices and joins again; the group gives the partition to this member, which has
// had no claim of the topic, and whose session goes on. Its claim would be of the new topic,
// and the driver would take it for one of the old: it would refuse the first commit, and
// move the group back to the beginning.
func (s *session) compareTopics() {
	generation := s.sess.GenerationID()
	s.mu.Lock()
	if s.look.generation != generation {
		s.look = &generationLook{generation: generation}
	}
	look := s.look
	s.mu.Unlock()
	look.once.Do(func() {
		ctx, cancel := context.WithTimeout(s.sess.Context(), surveyTimeout)
		defer cancel()
		if seen, err := s.c.topics.coordinator.survey(ctx); err == nil {
			s.c.topics.compare(ctx, seen)
		} // without an answer the first commit finds out
	})
	if topic, changed := s.c.topics.known.Changed(s.eras); changed {
		s.end(recreated(topic))
	}
}

// Cleanup implements Sarama's ConsumerGroupHandler.
func (s *session) Cleanup(ibm.ConsumerGroupSession) error {
	s.c.membership.leave()
	if cause := context.Cause(s.sess.Context()); gone(cause) {
		s.reportLost(cause)
	}
	return nil
}

// reportLost reports, once, that the membership is over, as there may be no claim that
// shows it. It must not be called by a goroutine of the core.
func (s *session) reportLost(cause error) {
	s.mu.Lock()
	reported := s.reported
	s.reported = true
	s.mu.Unlock()
	if !reported {
		s.c.core.Report(membershipLost(cause))
	}
}

// ConsumeClaim implements Sarama's ConsumerGroupHandler. It returns when the claim has
// ended, which no user code can delay beyond the drain window: Sarama, and the group with
// it, would wait for it without bound.
func (s *session) ConsumeClaim(sess ibm.ConsumerGroupSession, source ibm.ConsumerGroupClaim) error {
	c := s.c
	where := partition{Topic: source.Topic(), ID: source.Partition()}
	s.compareTopics()
	if sess.Context().Err() != nil {
		return nil
	}
	start, err := c.positions.start(s, source)
	if err != nil {
		if sess.Context().Err() == nil {
			return err // Sarama ends the session and reports it
		}
		return nil
	}
	cl := s.newClaim(sess, source, start)
	c.group.Resume(list(where)) // Sarama keeps the pause of an earlier claim
	if !c.claims.admit(cl) {
		return nil
	}
	if d, _ := cl.feed.state(); d != nil { // found since Sarama began to fetch
		cl.stand()
	}
	func() {
		defer c.core.Recovered("Assign")
		c.core.Handler.Assign([]*driver.Claim{cl.public})
	}()
	cl.deliver(source.Messages(), sess.Context().Done())
	if sess.Context().Err() == nil {
		cl.setEarly()
	}
	s.yield(cl, c.reason(cl, sess.Context()))
	return nil
}

func (s *session) keepPlaces(places map[partition]place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places = places
}

// takePlace returns what lookBeside has brought for p, once: a later claim of p starts
// elsewhere.
func (s *session) takePlace(p partition) (place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.places[p]
	delete(s.places, p)
	return at, ok
}

func (s *session) restarting(partitions []partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts = map[partition]bool{}
	for _, p := range partitions {
		s.restarts[p] = true
	}
}

// isRestarted reports, once, whether p was restarted when the session began.
func (s *session) isRestarted(p partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	restarts := s.restarts[p]
	delete(s.restarts, p)
	return restarts
}

// assigned returns the partitions that the member has been assigned.
func (s *session) assigned() (all []partition) {
	for topic, ids := range s.sess.Claims() {
		for _, id := range ids {
			all = append(all, partition{Topic: topic, ID: id})
		}
	}
	return all
}

func (s *session) newClaim(sess ibm.ConsumerGroupSession, source ibm.ConsumerGroupClaim, start startAt) *claim {
	c, topic, id := s.c, source.Topic(), source.Partition()
	cl := &claim{
		among: c.claims, session: s, group: c.group, core: c.core, closing: c.closing,
		where: partition{Topic: topic, ID: id}, source: source, feed: c.inspector.feed([]byte(topic), id),
		skip: start.skip, era: s.eras[topic], progress: position.NewProgress(start.at, start.metadata), signal: make(chan struct{}, 1),
	}
	cl.public = &driver.Claim{
		Topic: topic, Partition: id, Start: start.at, Metadata: start.metadata, End: -1,
		Generation: sess.GenerationID(), Backend: cl,
	}
	if start.metadata != "" {
		cl.public.End = start.end
	}
	return cl
}

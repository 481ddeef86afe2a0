package franz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// A session is one life of a member in its group: one kgo client with its connections. It
// lasts over rebalances, until something happens that kgo cannot recover from.
type session struct {
	c      *consumer
	claims *claims
	client *kgo.Client
	line   *dialer.Dialer  // of client
	seen   *inspector      // of what client fetches
	ctx    context.Context // of client; its end severs the client
	cut    context.CancelFunc
	eras   incarnation.Eras // when it began
	turn   *turn
	jobs   sync.WaitGroup // goroutines for single partitions

	closing sync.Once // of client

	running context.Context // ends when the session is to end
	stop    context.CancelCauseFunc

	withheld []*claim // with a batch that is held; used by the poll loop

	unreached chan int32  // a broker that could not be dialed; see lookForCoordinator
	admitted  atomic.Bool // to a group of the ConsumerProtocol, by an answer to a join

	mu        sync.Mutex // guards what follows
	pins      map[partition]int64
	assigned  map[partition]*holding // what kgo holds
	standings map[*claim]*standing
	idle      map[partition]bool  // assigned, and not read: see unstarted
	lost      []*claim            // by onLost, until the reason is known
	beside    map[partition]place // of kgo's latest answer, until onOffsets takes it
	owes      bool                // a cooperative rejoin
	reported  bool                // that the membership is over
}

// A holding is one assignment of a partition by kgo; the pointer is its identity.
type holding struct{ _ byte }

// newSession makes the client of a session, which joins nothing yet.
func (c *consumer) newSession(eras incarnation.Eras, pins map[partition]int64) (*session, error) {
	s := &session{
		c: c, claims: c.claims, eras: eras, pins: pins,
		assigned: map[partition]*holding{}, standings: map[*claim]*standing{}, unreached: make(chan int32, 1),
	}
	s.ctx, s.cut = context.WithCancel(context.Background())
	s.running, s.stop = context.WithCancelCause(s.ctx)
	s.turn = newTurn(s.running)
	s.seen = newInspector(c.cfg.MaxDecompressedBytes, c.cfg.MaxMessageBytes, s.unreadable)
	s.line = c.newMemberLine(s.seen)
	opts := append(c.memberOptions(s.line),
		kgo.WithContext(s.ctx), kgo.WithHooks(s),
		kgo.OnPartitionsAssigned(s.onAssigned), kgo.OnOffsetsFetched(s.onFetched), kgo.AdjustFetchOffsetsFn(s.onOffsets),
		kgo.OnPartitionsRevoked(s.onRevoked), kgo.OnPartitionsLost(s.onLost),
	)
	var err error
	if s.client, err = kgo.NewClient(opts...); err != nil {
		s.cut()
		return nil, invalid(err)
	}
	return s, nil
}

// end ends the session. The first cause counts.
func (s *session) end(cause error) {
	s.stop(cause)
	s.turn.nudge()
}

func (s *session) isOver() bool { return s.running.Err() != nil }

// lose ends the session of a member that owns nothing any longer.
func (s *session) lose(cause error) {
	for _, cl := range s.claims.undone(s) {
		cl.setLost(cause)
	}
	s.end(cause)
	s.reportLost(cause)
}

// cancelWindows ends the claims that are being revoked: they are lost.
func (s *session) cancelWindows(cause error) {
	live := map[*claim]bool{}
	for _, cl := range s.claims.all(nil) {
		live[cl] = true
	}
	for _, cl := range s.claims.undone(s) {
		if !live[cl] {
			cl.setLost(cause)
		}
	}
}

// reportLost reports, once, that the membership is over, as there may be no claim that
// shows it. It must not be called by a goroutine of the core: Handler.Error would run inside a
// call that the core makes, for example of Commit.
func (s *session) reportLost(cause error) {
	s.mu.Lock()
	reported := s.reported
	s.reported = true
	s.mu.Unlock()
	if !reported {
		s.c.core.Report(membershipLost(cause))
	}
}

// member returns the identity of the member, if it has joined.
func (s *session) member() (member, bool) {
	id, generation := s.client.GroupMetadata()
	first := int32(0)
	if s.c.membership.byEpochs {
		first = 1 // kgo has an ID and the epoch 0 while it joins
	}
	return member{session: s, id: id, generation: generation}, id != "" && generation >= first
}

// pin returns the end of p from before the join.
func (s *session) pin(p partition) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, ok := s.pins[p]
	return end, ok
}

func (s *session) addPins(pins map[partition]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins == nil {
		s.pins = map[partition]int64{}
	}
	for p, end := range pins {
		s.pins[p] = end
	}
}

// newHolding notes that kgo holds p from now on.
func (s *session) newHolding(p partition) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := new(holding)
	s.assigned[p] = h
	return h
}

// holds reports whether kgo holds p since h was made.
func (s *session) holds(p partition, h *holding) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h != nil && s.assigned[p] == h
}

func (s *session) holdingOf(p partition) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.assigned[p]
}

// onAssigned is called by kgo for each join, before it knows the positions: see onOffsets.
//
// Kgo joins again under another member ID if a join is refused, and keeps the claims of a
// cooperative member, which the group has given to others. So those are lost here.
func (s *session) onAssigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	by, ok := s.member()
	if s.isOver() || !ok {
		return
	}
	if zombies := s.claims.all(func(cl *claim) bool { return cl.member != by.id }); len(zombies) > 0 {
		s.lose(membershipLost(fmt.Errorf("joined again under another member ID: %w", kerr.UnknownMemberID)))
		return
	}
	s.mu.Lock()
	s.owes = false
	s.mu.Unlock()
	if fresh := s.c.membership.joined(s); !fresh && s.c.membership.byEpochs {
		return // it is a member, and what has been added comes to onOffsets
	}
	s.c.positions.restarts.Forget(s.c.cfg.Topics...)
	if len(added) == 0 {
		s.c.topics.doubt()
		s.assign(nil)
	}
}

// compareTopics ends the session if a topic is another than when the session began. It looks
// at the topics before claims begin. Otherwise this would happen: a topic is created again;
// the member that has its partition notices and joins again; the group gives the partition
// to this member, which has had no claim of the topic, and whose session goes on. Its claim
// would be of the new topic, and the driver would take it for one of the old: it would
// refuse the first commit, and move the group back to the beginning.
func (s *session) compareTopics(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	if seen, err := s.c.topics.coordinator.survey(asking); err == nil {
		s.c.topics.compare(ctx, seen)
	} else {
		s.c.topics.doubt()
	}
	s.endIfChanged()
}

// endIfChanged ends the session if a topic is another than when the session began. Restart
// has ended the session already, unless that had not begun.
func (s *session) endIfChanged() {
	if topic, changed := s.c.topics.known.Changed(s.eras); changed {
		s.end(recreated(topic))
	}
}

// assign gives claims to the core. It is called with the turn if there are any.
func (s *session) assign(claims []*claim) {
	for _, cl := range claims {
		s.claims.admit(cl)
	}
	defer s.c.core.Recovered("Assign")
	s.c.core.Handler.Assign(public(claims))
}

// onFetched is called by kgo with the answer to its question for positions, just before
// onOffsets, which sees no metadata.
func (s *session) onFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	beside := map[partition]place{}
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				beside[partition{Topic: t.Topic, ID: p.Partition}] = place{kgo.EpochOffset{Epoch: p.LeaderEpoch, Offset: p.Offset}, text(p.Metadata)}
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beside = beside
	return nil
}

// refuse waits until kgo wants no answer, and returns an error that is none of a context.
func (s *session) refuse(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return errors.New("the assignment is over")
}

// onRevoked gives claims back, before kgo joins again. For a cooperative member it is also
// called without partitions.
func (s *session) onRevoked(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	s.rejoins()
	partitions := flat(m)
	if len(partitions) == 0 {
		return
	}
	busy := s.claims.endingAt(partitions)
	for _, cl := range busy {
		cl.hurry()
	}
	s.mu.Lock()
	s.owes = true
	s.mu.Unlock()
	s.giveBack(s.takeAt(partitions))
	for _, cl := range busy { // kgo must not join before they have ended
		<-cl.ended
	}
}

// rejoins notes that kgo joins next, unless the coordinator moves the partitions one by one.
func (s *session) rejoins() {
	if !s.c.membership.byEpochs {
		s.c.membership.joining.Store(true)
		s.client.ForceMetadataRefresh() // a leader balances what it knows, which may be a minute old
	}
}

// takeAt takes the claims of partitions, which kgo no longer holds.
func (s *session) takeAt(partitions []partition) (taken []*claim) {
	s.turn.quiet(func() {
		wanted := map[partition]bool{}
		s.mu.Lock()
		for _, p := range partitions {
			wanted[p] = true
			delete(s.assigned, p)
		}
		s.mu.Unlock()
		taken = s.claims.take(func(cl *claim) bool { return wanted[cl.where] })
	})
	return taken
}

// onLost takes claims that are gone. Kgo does not say why; it calls OnGroupManageError next,
// by the same goroutine, or joins again: see membership.heardEpoch.
func (s *session) onLost(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	lost := s.takeAt(flat(m))
	for _, cl := range lost {
		cl.finish()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, lost...)
}

// OnGroupManageError implements kgo's hook: the member has lost what it owned, or could not
// join. Kgo joins again, whatever the reason is.
func (s *session) OnGroupManageError(err error) {
	err = s.c.wrap(unsupported(err))
	cause := err
	if wasMember := s.c.membership.endMembership(s); gone(err) || wasMember && !isPermanent(err) {
		cause = membershipLost(err)
	}
	s.c.membership.joining.Store(true)
	s.cancelWindows(cause)
	s.mu.Lock()
	lost := s.lost
	s.lost = nil
	s.mu.Unlock()
	s.giveUp(lost, cause)
	switch {
	case s.isOver():
	case isPermanent(err) && !isCode(err, kerr.TopicAuthorizationFailed, kerr.InvalidTopicException):
		s.c.fail(err)
	case isCode(err, kerr.SaslAuthenticationFailed): // a token that was refused: its source has another one next time
		s.end(err)
	default:
		s.c.core.Report(cause)
	}
}

// OnBrokerConnect implements kgo's hook. Kgo does not report an outage otherwise.
func (s *session) OnBrokerConnect(b kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		s.notReached(b, err)
	}
	if err != nil && !s.isOver() && !errors.Is(err, errSilent) {
		s.c.outage(err)
	}
}

var _ kgo.HookBrokerRead = (*session)(nil)

// OnBrokerRead implements kgo's hook. Kgo asks again after a broken answer to a fetch, and does
// not report it.
func (s *session) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key != response.Fetch || err == nil || s.isOver() {
		return
	}
	if broken := new(response.Error); errors.As(err, &broken) {
		s.c.outage(err)
	}
}

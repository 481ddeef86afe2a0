package franz

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// A group of the ConsumerProtocol (KIP-848) has epochs in place of generations. Kgo keeps
// the membership by heartbeats, in which the coordinator moves partitions one by one. While
// the core gives partitions up, kgo's heartbeats leave out what it holds, so that the
// coordinator counts on the member; the first heartbeat after that acknowledges them.
//
// A session is one membership here: when the coordinator has removed the member or fenced
// its epoch, the session ends, and the next one joins by another client.

var _ driver.GroupProtocolSupporter = Driver{}

// SupportsGroupProtocol implements [driver.GroupProtocolSupporter].
func (Driver) SupportsGroupProtocol(p driver.GroupProtocol) bool {
	return p == driver.ClassicProtocol || p == driver.ConsumerProtocol
}

func byEpochs(cfg driver.ConsumerConfig) bool { return cfg.GroupProtocol == driver.ConsumerProtocol }

// epochInterval is the interval of heartbeats that brokers ask for by default.
const epochInterval = 5 * time.Second

// heartbeatInterval returns the interval of heartbeats. With the ConsumerProtocol it is an
// estimate: each answer of the coordinator has the interval to the next heartbeat.
func heartbeatInterval(cfg driver.ConsumerConfig) time.Duration {
	if byEpochs(cfg) {
		return min(epochInterval, cfg.SessionTimeout/3)
	}
	return cfg.HeartbeatInterval
}

// learnTimeout asks for the time after which the group removes a silent member of the
// ConsumerProtocol. A member must not count on more. What it may not ask for, or what a broker
// does not answer in time, stays as it is configured.
func (m *membership) learnTimeout(ctx context.Context) {
	if !m.byEpochs {
		return
	}
	asking, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	theirs, err := m.coordinator.sessionTimeout(asking)
	if err != nil {
		return
	}
	timeout := min(m.cfg.SessionTimeout, theirs)
	if before := time.Duration(m.timeout.Swap(int64(timeout))); before != timeout && timeout < m.cfg.SessionTimeout && m.cfg.Logger != nil {
		m.cfg.Logger.Warn("SessionTimeout is longer than the group's, which counts", "group", m.cfg.Group,
			"session_timeout", m.cfg.SessionTimeout, "group_session_timeout", timeout)
	}
}

// groupTimeout is the setting of a group by which its coordinator removes silent members. The
// default is the broker's group.consumer.session.timeout.ms.
const groupTimeout = "consumer.session.timeout.ms"

// sessionTimeout returns groupTimeout.
func (k *coordinator) sessionTimeout(ctx context.Context) (time.Duration, error) {
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, k.cfg.Group
	resource.ConfigNames = []string{groupTimeout}
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = append(req.Resources, resource)
	resp, err := call[*kmsg.DescribeConfigsResponse](ctx, k, req)
	if err != nil {
		return 0, err
	}
	for _, r := range resp.Resources {
		for _, c := range r.Configs {
			if ms, err := strconv.Atoi(text(c.Value)); err == nil && c.Name == groupTimeout && ms > 0 {
				return time.Duration(ms) * time.Millisecond, nil
			}
		}
	}
	return 0, errIncomplete
}

// epochOptions returns kgo's options for the ConsumerProtocol. Kgo would fall back to the
// classic protocol if brokers do not have this one: so it must have no request to join.
func epochOptions(cfg driver.ConsumerConfig) []kgo.Opt {
	v := versions()
	v.SetMaxKeyVersion(response.JoinGroup, -1)
	return []kgo.Opt{
		kgo.ServerSideBalancer(),
		kgo.Balancers(kgo.StickyBalancer()), // the assignor "uniform" of the brokers
		kgo.MaxVersions(v),
		kgo.RetryBackoffFn(retryBackoff(cfg.SessionTimeout)),
	}
}

// retryBackoff returns how long kgo waits before it sends a heartbeat again that has failed.
// By itself it waits for up to 5 s: in a session of 6 s too few attempts would be left when
// another broker has the group.
func retryBackoff(session time.Duration) func(failures int) time.Duration {
	longest := min(max(session/20, 100*time.Millisecond), 2*time.Second)
	return func(failures int) time.Duration {
		wait := min(firstInterval<<min(max(failures-1, 0), 10), longest)
		return wait/2 + rand.N(wait/2+1)
	}
}

var errNoConsumerProtocol = errors.New("the brokers do not have the group protocol of GroupProtocol (KIP-848), which comes with Kafka 4")

// unsupported names the error of a request to join with the ClassicProtocol, which kgo must
// not send.
func unsupported(err error) error {
	if err != nil && strings.Contains(err.Error(), "request key is unknown") { // kgo has no name for it
		return &driver.Error{Code: "UNSUPPORTED_VERSION", Kind: driver.ErrPermanent, Err: errNoConsumerProtocol}
	}
	return err
}

// goesOn reports whether what was decided in the name of by holds in the name of now. With
// the ConsumerProtocol the epoch changes also while the partitions stay.
func (s *session) goesOn(by, now member) bool {
	if s.c.membership.byEpochs {
		return by.id == now.id
	}
	return by == now
}

// errAbandoned is why claims are lost that kgo has given up without a reason.
var errAbandoned = errors.New("the client has given up its membership")

// heardEpoch is heard for the ConsumerProtocol. An answer that ends the membership never
// reaches kgo, which would join again by itself and under another member ID, while claims are
// still to be ended. The session ends instead.
func (m *membership) heardEpoch(key int16, sent time.Time, code int16) {
	s := m.current()
	if key != response.GroupHeartbeat || s == nil {
		return
	}
	err := kerr.ErrorForCode(code)
	removed := gone(err) || isCode(err, kerr.StaleMemberEpoch)
	switch {
	case err == nil && s.hasAbandoned():
		m.dismiss(s, errAbandoned)
	case err == nil:
		s.admitted.Store(true)
		m.confirm(sent)
		m.refusedJoins.Store(0)
	case removed && s.admitted.Load(): // kgo may not have called onAssigned yet
		m.dismiss(s, err)
	case removed:
		m.paceJoins(m.refusedJoins.Add(1))
	}
}

// dismiss ends the session of a member that owns nothing any longer, and returns when its
// client is closed.
func (m *membership) dismiss(s *session, err error) {
	m.endMembership(s)
	s.lose(membershipLost(err))
	<-s.ctx.Done()
}

// hasAbandoned reports whether kgo has given up claims, and has not said why.
func (s *session) hasAbandoned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lost) > 0
}

// notReached notes that a broker could not be dialed, or has closed the connection before it
// could be used. It does not block.
func (s *session) notReached(b kgo.BrokerMetadata, err error) {
	if !s.c.membership.byEpochs {
		return
	}
	if !errors.Is(err, errSilent) {
		s.line.Doubt(net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
	}
	select {
	case s.unreached <- b.NodeID:
	default: // another one is being looked at; kgo dials this one again
	}
}

// lookWait bounds one attempt to have kgo forget a coordinator.
const lookWait = 500 * time.Millisecond

// lookForCoordinator has kgo look for the coordinator again when the broker could not be
// dialed, until the session ends. By itself kgo sends heartbeats of the ConsumerProtocol to the
// coordinator that it knows until the metadata lack that broker. It forgets a coordinator if
// it cannot dial that broker for another request: see doubting.
func (s *session) lookForCoordinator() {
	for {
		select {
		case node := <-s.unreached:
			ctx, cancel := context.WithTimeout(s.running, lookWait)
			_, _ = s.client.Broker(int(node)).RetriableRequest(ctx, kmsg.NewPtrApiVersionsRequest())
			cancel()
		case <-s.running.Done():
			return
		}
	}
}

const (
	leaveEpoch       = -1 // of a heartbeat by which a member leaves
	leaveStaticEpoch = -2 // and by which a static one frees its instance ID
)

// leaveEpochs takes a member of the ConsumerProtocol out of its group. A static member keeps
// its partitions until its session times out, and its instance ID is free at once. A join
// that the broker has yet to see would bring the member back, so one that has not joined
// leaves a few times.
func (k *coordinator) leaveEpochs(ctx context.Context, m member) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.InstanceID = k.cfg.Group, m.id, k.instance()
	req.MemberEpoch = leaveEpoch
	if req.InstanceID != nil {
		req.MemberEpoch = leaveStaticEpoch
	}
	again := 0
	if m.generation <= 0 {
		again = 3
	}
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		resp, err := call[*kmsg.ConsumerGroupHeartbeatResponse](ctx, k, req)
		if err == nil {
			err = k.judge(resp.ErrorCode)
		}
		if err == nil || gone(err) || isPermanent(wrap(err)) || isCode(err, kerr.GroupIDNotFound, kerr.UnreleasedInstanceID) {
			if err == nil || again == 0 {
				return
			}
			again--
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return
		}
	}
}

// giveBack yields claims that kgo no longer holds. With the ConsumerProtocol the coordinator
// takes the partitions of a topic away as soon as that is deleted: such claims are lost, and
// their positions are kept for the case that the topic is created again. What the member gives
// up otherwise is another member's from then on.
func (s *session) giveBack(taken []*claim) {
	if !s.c.membership.byEpochs || len(taken) == 0 {
		s.yield(taken)
		return
	}
	deleted := s.deletedTopics()
	var kept []*claim
	for _, cl := range taken {
		if err := deleted[cl.where.Topic]; err != nil {
			cl.setLost(err)
		} else if s.c.topics.isCurrent(cl) {
			kept = append(kept, cl)
		}
	}
	s.yield(taken)
	s.c.positions.restarts.Drop(places(kept))
}

// deletedTopics returns the topics that the coordinator no longer has, with its answer. If
// that takes long it returns none: the window of a Revoke, and some time for what comes after
// it, must be left.
func (s *session) deletedTopics() map[string]error {
	cfg := s.c.cfg
	ctx, cancel := context.WithTimeout(s.running, min(surveyTimeout, (cfg.RebalanceTimeout-cfg.DrainTimeout)/4))
	defer cancel()
	seen, err := s.c.topics.coordinator.survey(ctx)
	if err != nil {
		return nil
	}
	s.c.topics.compare(ctx, seen)
	deleted := map[string]error{}
	for topic, state := range seen.topics {
		if isCode(state.err, kerr.UnknownTopicOrPartition) {
			deleted[topic] = wrap(fmt.Errorf("topic %s was deleted: %w", driver.Printable(topic, 0), state.err))
		}
	}
	return deleted
}

package franz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// A coordinator sends requests to the group's coordinator, by a client without a group,
// which outlives sessions.
type coordinator struct {
	cfg    driver.ConsumerConfig
	client *kgo.Client
	ctx    context.Context // of client

	// lane holds one token. A commit takes it before it reads the member's identity, and
	// gives it back when the broker has answered, also if its caller has gone. So no
	// commit overtakes another.
	lane chan struct{}

	// unstable positions are read as they are, also if a transaction is about to move them.
	unstable bool

	mu    sync.Mutex // guards what follows
	node  int32
	known bool // node is the coordinator, as far as the consumer knows
}

func newCoordinator(ctx context.Context, cfg driver.ConsumerConfig, client *kgo.Client) *coordinator {
	return &coordinator{cfg: cfg, ctx: ctx, client: client, lane: make(chan struct{}, 1)}
}

// close returns when no commit is under way, and none will be. The client must have been
// severed.
func (k *coordinator) close() { k.lane <- struct{}{} }

// call sends a request to the coordinator and waits for the answer.
func call[R kmsg.Response](ctx context.Context, k *coordinator, req kmsg.Request) (R, error) {
	var none R
	broker, err := k.broker(ctx)
	if err != nil {
		return none, err
	}
	resp, err := broker.Request(ctx, req)
	if err != nil {
		k.forget() // it may be another broker by now
		return none, err
	}
	return resp.(R), nil
}

// broker returns the coordinator.
func (k *coordinator) broker(ctx context.Context) (*kgo.Broker, error) {
	k.mu.Lock()
	node, known := k.node, k.known
	k.mu.Unlock()
	if known {
		return k.client.Broker(int(node)), nil
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = k.cfg.Group, []string{k.cfg.Group}
	resp, err := req.RequestWith(ctx, k.client)
	if err != nil {
		return nil, err
	}
	code, node := resp.ErrorCode, resp.NodeID
	if len(resp.Coordinators) > 0 {
		code, node = resp.Coordinators[0].ErrorCode, resp.Coordinators[0].NodeID
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.node, k.known = node, true
	return k.client.Broker(int(node)), nil
}

// forget has the coordinator looked up before the next request.
func (k *coordinator) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = false
}

// judge returns the error of a code, and has the coordinator looked up if the code says
// that it is another broker.
func (k *coordinator) judge(code int16) error {
	err := kerr.ErrorForCode(code)
	if isCode(err, kerr.NotCoordinator, kerr.CoordinatorNotAvailable) {
		k.forget()
	}
	return err
}

// alone runs f alone, and waits for it or for ctx.
func alone[T any](ctx context.Context, k *coordinator, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		answer T
		err    error
	}
	var none T
	select {
	case k.lane <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	results := make(chan result, 1)
	go func() { // ends when the broker has answered or the client is severed
		defer func() { <-k.lane }()
		answer, err := f(k.ctx)
		results <- result{answer, err}
	}()
	select {
	case r := <-results:
		return r.answer, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// instance returns the instance ID as requests hold it.
func (k *coordinator) instance() *string {
	if k.cfg.InstanceID == "" {
		return nil
	}
	return &k.cfg.InstanceID
}

// heartbeat sends a heartbeat of m, and returns when.
func (k *coordinator) heartbeat(ctx context.Context, m member) (time.Time, error) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = k.cfg.Group, m.id, m.generation, k.instance()
	sent := time.Now()
	resp, err := call[*kmsg.HeartbeatResponse](ctx, k, req)
	if err != nil {
		return sent, err
	}
	return sent, k.judge(resp.ErrorCode)
}

// leave takes a member out of the group, so that the others need not wait until its session
// times out.
func (k *coordinator) leave(ctx context.Context, m member) error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = k.cfg.Group, m.id
	rm := kmsg.NewLeaveGroupRequestMember()
	rm.MemberID, rm.InstanceID = m.id, k.instance()
	req.Members = append(req.Members, rm)
	resp, err := call[*kmsg.LeaveGroupResponse](ctx, k, req)
	if err != nil {
		return err
	}
	return k.judge(resp.ErrorCode)
}

// survey asks for the consumer's topics. The coordinator keeps the positions, so its view
// of the topics is the one that matters.
func (k *coordinator) survey(ctx context.Context) (survey, error) {
	broker, err := k.broker(ctx)
	if err != nil {
		return survey{}, err
	}
	s, err := askTopics(ctx, broker, k.cfg.Topics)
	if err != nil {
		k.forget()
	}
	return s, err
}

// commitRequest begins a commit as m.
func (k *coordinator) commitRequest(m member) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = k.cfg.Group, m.id, m.generation
	if m.session != nil {
		req.InstanceID = k.instance()
	}
	return req
}

// addOffset adds a position to a commit. An epoch of -1 is unknown.
func addOffset(req *kmsg.OffsetCommitRequest, p partition, offset int64, epoch int32, metadata string) {
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Metadata = &metadata
	rp.Partition, rp.Offset, rp.LeaderEpoch = p.ID, offset, epoch
	for i := range req.Topics {
		if t := &req.Topics[i]; t.Topic == p.Topic {
			t.Partitions = append(t.Partitions, rp)
			return
		}
	}
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.Partitions = p.Topic, append(t.Partitions, rp)
	req.Topics = append(req.Topics, t)
}

// commit sends a commit, and returns the verdict on each of its positions.
func (k *coordinator) commit(ctx context.Context, req *kmsg.OffsetCommitRequest) (map[partition]error, error) {
	resp, err := call[*kmsg.OffsetCommitResponse](ctx, k, req)
	if err != nil {
		return nil, err
	}
	verdicts := map[partition]error{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			verdicts[partition{Topic: t.Topic, ID: p.Partition}] = k.judge(p.ErrorCode)
		}
	}
	return verdicts, nil
}

// committed returns the group's positions. An error of one partition is no verdict on the
// others.
func (k *coordinator) committed(ctx context.Context, partitions []partition) (position.Committed, error) {
	at := position.Committed{At: map[partition]int64{}, Beside: map[partition]string{}, Failed: map[partition]error{}}
	if len(partitions) == 0 {
		return at, nil
	}
	answers, err := k.fetchOffsets(ctx, partitions)
	if err != nil {
		return at, err
	}
	for _, p := range partitions {
		a, ok := answers[p]
		err := k.judge(a.ErrorCode)
		switch {
		case !ok:
			at.Failed[p] = errIncomplete
		case ofTheGroup(err):
			return at, err
		case err != nil:
			at.Failed[p] = err
		case a.Offset >= 0:
			at.At[p], at.Beside[p] = a.Offset, text(a.Metadata)
		}
	}
	return at, nil
}

var errIncomplete = errors.New("the answer of the broker is incomplete")

// text returns a string that may be null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

type offsetAnswer = kmsg.OffsetFetchResponseGroupTopicPartition

func (k *coordinator) fetchOffsets(ctx context.Context, partitions []partition) (map[partition]offsetAnswer, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.RequireStable = k.cfg.Group, !k.unstable
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = k.cfg.Group
	for topic, ids := range byTopic(partitions...) {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = topic, ids
		req.Topics = append(req.Topics, t)
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = topic, ids
		g.Topics = append(g.Topics, gt)
	}
	req.Groups = append(req.Groups, g)
	resp, err := call[*kmsg.OffsetFetchResponse](ctx, k, req)
	if err != nil {
		return nil, err
	}
	answers := map[partition]offsetAnswer{}
	for _, t := range resp.Topics { // before version 8
		for _, p := range t.Partitions {
			answers[partition{Topic: t.Topic, ID: p.Partition}] = offsetAnswer{
				Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, ErrorCode: p.ErrorCode,
			}
		}
	}
	code := resp.ErrorCode
	for _, g := range resp.Groups {
		code = g.ErrorCode
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				answers[partition{Topic: t.Topic, ID: p.Partition}] = p
			}
		}
	}
	err = k.judge(code)
	if isCode(err, kerr.GroupIDNotFound) { // no group, so no positions
		for _, p := range partitions {
			if _, ok := answers[p]; !ok {
				answers[p] = offsetAnswer{Partition: p.ID, Offset: -1, LeaderEpoch: -1}
			}
		}
		return answers, nil
	}
	if err != nil {
		return nil, fmt.Errorf("positions of the group: %w", err)
	}
	return answers, nil
}

// ofTheGroup reports whether an error that comes with one partition is about the group,
// its coordinator or the member, and so about all partitions.
func ofTheGroup(err error) bool {
	return isCode(err, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress,
		kerr.GroupAuthorizationFailed, kerr.InvalidGroupID, kerr.GroupIDNotFound,
		kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.FencedInstanceID,
		kerr.FencedMemberEpoch, kerr.StaleMemberEpoch)
}

// otherMembers reports whether a coordinator has refused positions with err because the
// group has gone on without this member.
func otherMembers(err error) bool {
	return isCode(err, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress)
}

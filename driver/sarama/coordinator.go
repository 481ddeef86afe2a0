package sarama

import (
	"context"
	"errors"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// A coordinator sends requests to the group's coordinator, one at a time, on a connection
// of its own.
type coordinator struct {
	cfg    driver.ConsumerConfig
	conf   *ibm.Config
	client ibm.Client
	line   *dialer.Dialer // of client

	// lane holds one token. An exchange takes it before it reads the member's identity,
	// and gives it back when the broker has answered, also if its caller has gone. So no
	// commit overtakes another.
	lane  chan struct{}
	stale bool // the coordinator has to be looked up; guarded by lane
}

func newCoordinator(cfg driver.ConsumerConfig, conf *ibm.Config, client ibm.Client, line *dialer.Dialer) *coordinator {
	return &coordinator{cfg: cfg, conf: conf, client: client, line: line, lane: make(chan struct{}, 1), stale: true}
}

// close returns when no exchange is under way, and none will be. The connections must be
// severed.
func (k *coordinator) close() { k.lane <- struct{}{} }

// wrap is wrap for an error of this consumer. A refused OAUTHBEARER token is no reason to
// give up: its source has another one next time.
func (k *coordinator) wrap(err error) error { return soften(wrap(err), k.cfg.SASL) }

// exchange runs ask alone, with the connection to the coordinator, and waits for it or
// for ctx.
func exchange[T any](ctx context.Context, k *coordinator, ask func(*ibm.Broker) (T, error)) (T, error) {
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
	go func() { // ends when the broker has answered or the line is cut
		defer func() { <-k.lane }()
		var r result
		broker, err := k.broker()
		if err != nil {
			results <- result{none, err}
			return
		}
		r.answer, r.err = ask(broker)
		switch {
		case r.err == nil, errors.Is(r.err, driver.ErrClaimEnded): // nothing was asked
		case errors.Is(r.err, errRecreated): // the answer is about another topic
		case len(kafkaErrors(r.err)) == 0: // not an answer: the connection is bad
			k.stale = true
			broker.Close()
		case isCode(r.err, ibm.ErrNotCoordinatorForConsumer, ibm.ErrConsumerCoordinatorNotAvailable):
			k.stale = true
		}
		results <- r
	}()
	select {
	case r := <-results:
		return r.answer, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// broker returns the connection to the coordinator.
func (k *coordinator) broker() (*ibm.Broker, error) {
	for attempt := 0; k.stale; attempt++ {
		err := k.client.RefreshCoordinator(k.cfg.Group)
		switch {
		case err == nil:
			k.stale = false
		case attempt == metadataRetries, isPermanent(k.wrap(err)), k.line.IsSevered():
			return nil, err
		default:
			k.line.Wait(metadataBackoff)
		}
	}
	return k.client.Coordinator(k.cfg.Group)
}

func (k *coordinator) commitRequest(m member) *ibm.OffsetCommitRequest {
	req := ibm.NewOffsetCommitRequest(k.conf, k.cfg.Group)
	req.ConsumerGroupGeneration = m.generation
	req.ConsumerID = m.id
	if k.cfg.InstanceID != "" && m.session != nil {
		req.GroupInstanceId = &k.cfg.InstanceID
	}
	return req
}

// heartbeat sends a heartbeat of m. If m is still a member it calls confirm with the time
// at which that was sent, also if ctx has ended meanwhile.
func (k *coordinator) heartbeat(ctx context.Context, m member, confirm func(sent time.Time)) error {
	_, err := exchange(ctx, k, func(broker *ibm.Broker) (struct{}, error) {
		req := &ibm.HeartbeatRequest{
			Version: 4, GroupId: k.cfg.Group, MemberId: m.id, GenerationId: m.generation,
		}
		if k.cfg.InstanceID != "" {
			req.GroupInstanceId = &k.cfg.InstanceID
		}
		sent := time.Now()
		resp, err := broker.Heartbeat(req)
		if err != nil {
			return struct{}{}, err
		}
		if resp.Err == ibm.ErrNoError || resp.Err == ibm.ErrRebalanceInProgress {
			confirm(sent)
		}
		if resp.Err != ibm.ErrNoError {
			return struct{}{}, resp.Err
		}
		return struct{}{}, nil
	})
	return err
}

// leave takes m out of the group, however often that must be tried, until ctx ends. Sarama
// learns it from the answer to its next join, and joins as another member.
func (k *coordinator) leave(ctx context.Context, m member) {
	for retry := firstCommitRetry; ; retry = min(2*retry, lastCommitRetry) {
		_, err := exchange(ctx, k, func(broker *ibm.Broker) (*ibm.LeaveGroupResponse, error) {
			who := ibm.MemberIdentity{MemberId: m.id}
			if k.cfg.InstanceID != "" {
				who.GroupInstanceId = &k.cfg.InstanceID
			}
			resp, err := broker.LeaveGroup(&ibm.LeaveGroupRequest{Version: 3, GroupId: k.cfg.Group, Members: []ibm.MemberIdentity{who}})
			if err == nil && resp.Err != ibm.ErrNoError {
				err = resp.Err
			}
			return resp, err
		})
		if err == nil || isCode(err, ibm.ErrUnknownMemberId) || isPermanent(k.wrap(err)) {
			return
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return
		}
	}
}

// survey asks for the consumer's topics. The coordinator keeps the positions, so its view
// of the topics is the one that matters.
func (k *coordinator) survey(ctx context.Context) (survey, error) {
	return exchange(ctx, k, func(broker *ibm.Broker) (survey, error) {
		return askTopics(broker, k.conf.Version, k.cfg.Topics)
	})
}

// fetchOffsets asks for positions as Sarama does when a session begins: at ReadCommitted a
// position is not known that a transaction is about to move. Brokers before 2.5 cannot say
// that.
func (k *coordinator) fetchOffsets(broker *ibm.Broker, wanted map[string][]int32) (*ibm.OffsetFetchResponse, error) {
	req := ibm.NewOffsetFetchRequest(k.conf.Version, k.cfg.Group, wanted)
	req.RequireStable = k.conf.Consumer.IsolationLevel == ibm.ReadCommitted && req.Version >= stableFetch
	resp, err := broker.FetchOffset(req)
	if !req.RequireStable || !unencodable(err) {
		return resp, err
	}
	return broker.FetchOffset(ibm.NewOffsetFetchRequest(k.conf.Version, k.cfg.Group, wanted))
}

// stableFetch is the version of OffsetFetch from which on a broker can be asked for stable
// positions.
const stableFetch = 7

// committed returns the group's positions. An error of one partition is no verdict on the
// others.
func (k *coordinator) committed(ctx context.Context, partitions []partition) (position.Committed, error) {
	return exchange(ctx, k, func(broker *ibm.Broker) (position.Committed, error) {
		wanted := map[string][]int32{}
		for _, p := range partitions {
			wanted[p.Topic] = append(wanted[p.Topic], p.ID)
		}
		resp, err := k.fetchOffsets(broker, wanted)
		at := position.Committed{At: map[partition]int64{}, Beside: map[partition]string{}, Failed: map[partition]error{}}
		if err != nil {
			return at, err
		}
		if resp.GroupError() == ibm.ErrGroupIDNotFound {
			return at, nil
		}
		for _, p := range partitions {
			block := resp.GetBlock(p.Topic, p.ID)
			switch {
			case block == nil && resp.GroupError() != ibm.ErrNoError:
				return at, resp.GroupError()
			case block == nil:
				at.Failed[p] = ibm.ErrIncompleteResponse
			case ofTheGroup(block.Err):
				return at, block.Err
			case block.Err != ibm.ErrNoError:
				at.Failed[p] = block.Err
			case block.Offset >= 0:
				at.At[p], at.Beside[p] = block.Offset, block.Metadata
			}
		}
		return at, nil
	})
}

// ofTheGroup reports whether an error that comes with one partition is about the group,
// its coordinator or the member, and so about all partitions.
func ofTheGroup(err error) bool {
	return isCode(err, ibm.ErrNotCoordinatorForConsumer, ibm.ErrConsumerCoordinatorNotAvailable, ibm.ErrOffsetsLoadInProgress,
		ibm.ErrGroupAuthorizationFailed, ibm.ErrInvalidGroupId, ibm.ErrGroupIDNotFound,
		ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrRebalanceInProgress, ibm.ErrFencedInstancedId)
}

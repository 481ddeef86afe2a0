package outside

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// A foreign is a member of a group that reads topics of its own, existing or not,
// and does nothing with them. It never decides an assignment: it joins a group that
// has a leader.
type foreign struct {
	cl         *kgo.Client
	group      string
	protocol   kmsg.JoinGroupRequestProtocol
	id         string
	generation int32
}

// JoinForeign adds such a member to a group, and returns once its request to join is
// about to be sent. leave takes it out again.
func (c Client) JoinForeign(ctx context.Context, group string, s driver.BalanceStrategy, topics ...string) (leave func(), err error) {
	cl, err := c.open()
	if err != nil {
		return nil, err
	}
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = topics
	f := &foreign{cl: cl, group: group, protocol: kmsg.NewJoinGroupRequestProtocol()}
	f.protocol.Name, f.protocol.Metadata = s.String(), meta.AppendTo(nil)
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for living.Err() == nil {
			if f.attend(living) != nil {
				pause(living)
			}
		}
	}()
	return func() {
		stop()
		<-done
		f.leave()
		cl.Close()
	}, nil
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}

// attend goes through one generation of the group.
func (f *foreign) attend(ctx context.Context) error {
	leads, err := f.join(ctx)
	if err != nil {
		return err
	}
	if leads {
		f.leave() // another member has to
		return errors.New("elected")
	}
	if err := f.sync(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		pause(ctx)
		if err := f.beat(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *foreign) join(ctx context.Context) (leads bool, err error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = f.group, f.id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
	req.Protocols = append(req.Protocols, f.protocol)
	resp, err := req.RequestWith(ctx, f.cl)
	if err != nil {
		return false, err
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case errors.Is(err, kerr.MemberIDRequired):
		f.id = resp.MemberID
		return f.join(ctx)
	case err != nil:
		f.id = ""
		return false, fmt.Errorf("join of a foreign member: %w", err)
	}
	f.id, f.generation = resp.MemberID, resp.Generation
	return resp.LeaderID == resp.MemberID, nil
}

func (f *foreign) sync(ctx context.Context) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = f.group, f.id, f.generation
	protocolType := "consumer"
	req.ProtocolType, req.Protocol = &protocolType, &f.protocol.Name
	resp, err := req.RequestWith(ctx, f.cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

func (f *foreign) beat(ctx context.Context) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = f.group, f.id, f.generation
	resp, err := req.RequestWith(ctx, f.cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

func (f *foreign) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = f.id
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID, req.Members = f.group, f.id, append(req.Members, member)
	_, _ = req.RequestWith(ctx, f.cl) // a member that cannot leave times out
	f.id = ""
}

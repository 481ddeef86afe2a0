package outside

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A foreignEpochs is a foreign of the ConsumerProtocol.
type foreignEpochs struct {
	cl    *kgo.Client
	group string
	id    string
	epoch int32
}

// JoinForeignEpochs is JoinForeign for the ConsumerProtocol.
func (c Client) JoinForeignEpochs(ctx context.Context, group string, topics ...string) (leave func(), err error) {
	cl, err := c.open()
	if err != nil {
		return nil, err
	}
	f := &foreignEpochs{cl: cl, group: group, id: rand.Text()}
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for living.Err() == nil {
			_ = f.beat(living, topics)
			pause(living)
		}
	}()
	return func() {
		stop()
		<-done
		f.leave()
		cl.Close()
	}, nil
}

// beat sends a heartbeat. The first one joins, as does the one after an error.
func (f *foreignEpochs) beat(ctx context.Context, topics []string) error {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = f.group, f.id, f.epoch, 10_000
	if f.epoch == 0 {
		req.SubscribedTopicNames, req.Topics = topics, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	resp, err := req.RequestWith(ctx, f.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	f.epoch = 0
	if err == nil {
		f.epoch = resp.MemberEpoch
	}
	return err
}

func (f *foreignEpochs) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = f.group, f.id, -1
	_, _ = req.RequestWith(ctx, f.cl) // a member that cannot leave times out
}

package sarama

import (
	"context"
	"time"

	ibm "github.com/IBM/sarama"
)

// watch looks, while claims of s are being revoked, whether they are lost
// meanwhile: a member that takes longer than the rebalance timeout is removed.
// Sarama's own heartbeats go on, but what they bring then shows nowhere. It ends
// with ctx.
func (c *consumer) watch(ctx context.Context, s *session) {
	tick := time.NewTicker(c.cfg.HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if by, ok := c.member(); !ok || by.session != s || c.beat(ctx) {
			return
		}
	}
}

func (c *consumer) heartbeat(coordinator *ibm.Broker, by member) error {
	req := &ibm.HeartbeatRequest{
		Version: 4, GroupId: c.cfg.Group, MemberId: by.id, GenerationId: by.generation,
	}
	if c.cfg.InstanceID != "" {
		req.GroupInstanceId = &c.cfg.InstanceID
	}
	sent := time.Now()
	resp, err := coordinator.Heartbeat(req)
	if err != nil {
		return err
	}
	if resp.Err == ibm.ErrNoError || resp.Err == ibm.ErrRebalanceInProgress {
		c.membership.confirm(sent)
	}
	if resp.Err != ibm.ErrNoError {
		return resp.Err
	}
	return nil
}

package franz

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

var _ driver.TopicFinder = (*producer)(nil)

// FindTopic implements [driver.TopicFinder]. The request names the topic and does not
// allow its creation. A topic whose partitions have no leader exists.
func (p *producer) FindTopic(ctx context.Context, topic string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.isClosing() {
		return driver.ErrClosed
	}
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(topic)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, asked)
	resp, err := req.RequestWith(ctx, p.cl)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && p.isClosing():
		return driver.ErrClosed
	case err != nil:
		return wrap(err)
	}
	for _, t := range resp.Topics {
		if t.Topic == nil || *t.Topic != topic {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && err != kerr.LeaderNotAvailable {
			return wrap(fmt.Errorf("topic %q: %w", topic, err))
		}
		return nil
	}
	return wrap(fmt.Errorf("topic %q: %w", topic, kerr.UnknownServerError))
}

// isClosing reports whether Close has begun.
func (p *producer) isClosing() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}

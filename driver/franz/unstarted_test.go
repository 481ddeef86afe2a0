package franz

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
)

// TestTroubleOfATopicEndsNoSession: kgo reports with each look at the metadata that a topic,
// or one partition whose position it needs, cannot be read. A partition that kgo leaves alone
// ends the session. A topic ends it only if it is the only one and may not be read.
func TestTroubleOfATopicEndsNoSession(t *testing.T) {
	for _, c := range []struct {
		name    string
		topics  []string
		id      int32
		err     error
		reports int
		ends    bool
	}{
		{"one of two topics", []string{"t", "other"}, -1, kerr.UnknownServerError, 2, false},
		{"one of two topics, denied", []string{"t", "other"}, -1, kerr.TopicAuthorizationFailed, 2, false},
		{"the only topic", []string{"t"}, -1, kerr.UnknownServerError, 2, false},
		{"the only topic, denied", []string{"t"}, -1, kerr.TopicAuthorizationFailed, 2, true},
		{"a partition", []string{"t", "other"}, 0, kerr.UnknownServerError, 100, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				k := new(core.Calls)
				k.SetHandler(r)
				s := &session{
					c:      &consumer{core: k, topics: &topics{core: k, reports: map[string]reported{}}},
					claims: newClaims(),
				}
				s.c.cfg.Topics = c.topics
				s.running, s.stop = context.WithCancelCause(t.Context())
				s.turn = newTurn(s.running)
				for range 100 {
					s.failed(partition{Topic: "t", ID: c.id}, c.err)
					time.Sleep(reportEvery/50 + 1) // two minutes in all
				}
				time.Sleep(reportEvery)
				synctest.Wait()
				assert.Equal(t, c.ends, s.isOver(), "the session is over")
				s.stop(nil)
				s.jobs.Wait()
				assert.Len(t, r.errs, c.reports)
				for _, err := range r.errs {
					var p *driver.PartitionError
					if assert.ErrorAs(t, err, &p) {
						assert.Equal(t, c.id, p.Partition)
					}
				}
			})
		})
	}
}

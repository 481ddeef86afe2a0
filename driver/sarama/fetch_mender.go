package sarama

import (
	"context"
	"errors"
	"fmt"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

const (
	// firstLook and lastLook are the distances of the looks at a claim that cannot be
	// read on.
	firstLook = time.Second
	lastLook  = 30 * time.Second

	// stuckAfter is how long a broker may answer for a partition with nothing although
	// its log goes on. A quota and the other partitions of an answer can be the reason
	// for as long as some answers take.
	stuckAfter = 15 * time.Second

	mendTick = time.Second
)

// A standing is the state of a claim that cannot be read on.
type standing struct {
	next     time.Time     // of the next look
	wait     time.Duration // from that to the one after it
	reported *recordbatch.Damage
}

// A mender reports partitions that cannot be read on, and has them looked at again from
// time to time.
type mender struct {
	claims   *claims
	core     *core.Calls
	troubled chan struct{} // a partition cannot be read on

	// One goroutine uses what follows.
	stand map[*claim]*standing
	stuck map[*claim]time.Time // since when; has been reported
}

func newMender(claims *claims, core *core.Calls) *mender {
	return &mender{
		claims: claims, core: core, troubled: make(chan struct{}, 1),
		stand: map[*claim]*standing{}, stuck: map[*claim]time.Time{},
	}
}

// run looks until ctx ends.
func (m *mender) run(ctx context.Context) {
	tick := time.NewTicker(mendTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.troubled:
		case <-ctx.Done():
			return
		}
		m.round(time.Now())
	}
}

// inTrouble is called by the goroutine that reads for Sarama: it stops a partition that
// cannot be read on before Sarama asks for it again.
func (m *mender) inTrouble(f *feed) {
	if cl := m.claims.at(f.where); cl != nil {
		cl.stand()
	}
	select {
	case m.troubled <- struct{}{}:
	default:
	}
}

func (m *mender) round(now time.Time) {
	live := map[*claim]bool{}
	for _, cl := range m.claims.all(nil) {
		live[cl] = true
		t, since := cl.feed.state()
		m.stuckAt(cl, since, now)
		if t == nil {
			delete(m.stand, cl)
			continue
		}
		m.standAt(cl, t, now)
	}
	for cl := range m.stand {
		if !live[cl] {
			delete(m.stand, cl)
		}
	}
	for cl := range m.stuck {
		if !live[cl] {
			delete(m.stuck, cl)
		}
	}
}

// standAt reports t when it has been found, and again with each look that finds it, and has
// the claim looked at when it is time.
func (m *mender) standAt(cl *claim, t *recordbatch.Damage, now time.Time) {
	s := m.stand[cl]
	if s == nil {
		s = &standing{next: now.Add(firstLook), wait: firstLook}
		m.stand[cl] = s
	}
	if s.reported != t {
		s.reported = t
		m.core.Report(damageAt(cl.where, t))
	}
	if cl.isStanding() && now.After(s.next) && cl.tryAgain() {
		s.wait = min(2*s.wait, lastLook)
		s.next = now.Add(s.wait)
	}
}

// stuckAt reports once a claim for which a broker answers with nothing although its log
// goes on.
func (m *mender) stuckAt(cl *claim, since, now time.Time) {
	if since.IsZero() || cl.paused.Load() {
		delete(m.stuck, cl)
		return
	}
	if now.Sub(since) < stuckAfter || m.stuck[cl] == since {
		return
	}
	m.stuck[cl] = since
	m.core.Report(&driver.PartitionError{Topic: cl.where.Topic, Partition: cl.where.ID, Offset: cl.feed.position(),
		Err: &driver.Error{Code: "FETCH_STALLED", Err: fmt.Errorf(
			"nothing could be read for %v, though the log goes on to %d", now.Sub(since).Round(time.Second), cl.feed.end.Load())}})
}

// undecoded reports whether err, which Sarama reports for a partition, may be of another
// one: Sarama decodes an answer of a broker as one. The records that it could not read come
// again, and are then examined thoroughly. If that finds nothing and Sarama fails again, the
// error is reported as it is.
func (m *mender) undecoded(p partition, err error) bool {
	var decoding ibm.PacketDecodingError
	code, kind := classify(err)
	if p.ID < 0 || kind != nil || code != "CLIENT_ERROR" && !errors.As(err, &decoding) {
		return false
	}
	cl := m.claims.at(p)
	return cl != nil && cl.feed.blamed(time.Now())
}

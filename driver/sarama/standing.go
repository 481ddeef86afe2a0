package sarama

import (
	"errors"
	"fmt"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

const (
	// firstLook and lastLook are the distances of the looks at what cannot be read.
	firstLook = time.Second
	lastLook  = 30 * time.Second

	// stuckAfter is how long a partition may be answered with nothing though there
	// is something. A quota and the other partitions of an answer can be the reason
	// for as long as some answers take.
	stuckAfter = 15 * time.Second

	mendTick = time.Second
)

// A standing is a claim that cannot be read on.
type standing struct {
	next time.Time     // of the next look
	wait time.Duration // from that to the one after it
	told *recordbatch.Damage
}

// A mender reports partitions that cannot be read on, and has them looked at again
// and again.
type mender struct {
	c     *consumer
	stand map[*claim]*standing
	stuck map[*claim]time.Time // since when; has been told
}

// mend runs until Run or Close ends it.
func (c *consumer) mend() {
	m := mender{c: c, stand: map[*claim]*standing{}, stuck: map[*claim]time.Time{}}
	tick := time.NewTicker(mendTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.troubled:
		case <-c.served:
			return
		case <-c.closing:
			return
		}
		m.round(time.Now())
	}
}

// inTrouble is called by the goroutine that reads for Sarama: it stops what cannot
// be read on before Sarama asks for it again.
func (c *consumer) inTrouble(f *feed) {
	if cl := c.claims.at(f.where); cl != nil {
		cl.stand()
	}
	select {
	case c.troubled <- struct{}{}:
	default:
	}
}

func (m *mender) round(now time.Time) {
	live := map[*claim]bool{}
	for _, cl := range m.c.claims.all(nil) {
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

// standAt reports t when it has been found, and again with each look that finds
// it, and lets the claim be looked at when it is time.
func (m *mender) standAt(cl *claim, t *recordbatch.Damage, now time.Time) {
	s := m.stand[cl]
	if s == nil {
		s = &standing{next: now.Add(firstLook), wait: firstLook}
		m.stand[cl] = s
	}
	if s.told != t {
		s.told = t
		m.c.tell(damageAt(cl.where, t))
	}
	if cl.isStanding() && now.After(s.next) && cl.look() {
		s.wait = min(2*s.wait, lastLook)
		s.next = now.Add(s.wait)
	}
}

// stuckAt reports once a claim that is answered with nothing though its log goes
// on.
func (m *mender) stuckAt(cl *claim, since, now time.Time) {
	if since.IsZero() || cl.paused.Load() {
		delete(m.stuck, cl)
		return
	}
	if now.Sub(since) < stuckAfter || m.stuck[cl] == since {
		return
	}
	m.stuck[cl] = since
	m.c.tell(&driver.PartitionError{Topic: cl.where.Topic, Partition: cl.where.ID, Offset: cl.feed.position(),
		Err: &driver.Error{Code: "FETCH_STALLED", Err: fmt.Errorf(
			"nothing could be read for %v, though the log goes on to %d", now.Sub(since).Round(time.Second), cl.feed.end.Load())}})
}

// undecoded reports whether err, which Sarama reports for a partition, may be of
// another one: Sarama decodes what a broker answers as one. What it could not
// read comes again, and is then looked at thoroughly. Only if nothing was found
// by that, and Sarama fails again, it is told as it is.
func (c *consumer) undecoded(p partition, err error) bool {
	var decoding ibm.PacketDecodingError
	code, kind := classify(err)
	if p.ID < 0 || kind != nil || code != "CLIENT_ERROR" && !errors.As(err, &decoding) {
		return false
	}
	cl := c.claims.at(p)
	return cl != nil && cl.feed.blamed(time.Now())
}

package sarama

import (
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

type partition = position.Partition

// list returns p in the form that Sarama asks for.
func list(p partition) map[string][]int32 { return map[string][]int32{p.Topic: {p.ID}} }

// topicsOf returns the topics of partitions, each once.
func topicsOf(partitions []partition) (topics []string) {
	for _, p := range partitions {
		if !slices.Contains(topics, p.Topic) {
			topics = append(topics, p.Topic)
		}
	}
	return topics
}

// claims are the live claims of a consumer: those that have been assigned, and have
// neither been revoked nor lost.
type claims struct {
	mu     sync.Mutex // guards what follows
	live   map[partition]*claim
	closed bool          // no more claims are admitted
	empty  chan struct{} // closed when no claim is live and none will be
}

func newClaims() *claims {
	return &claims{live: map[partition]*claim{}, empty: make(chan struct{})}
}

// admit makes cl live, unless the consumer is closing.
func (cs *claims) admit(cl *claim) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return false
	}
	cs.live[cl.where] = cl
	return true
}

// remove takes out cl, which has ended.
func (cs *claims) remove(cl *claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.live[cl.where] != cl {
		return // removed already; the partition may have another claim
	}
	delete(cs.live, cl.where)
	if cs.closed && len(cs.live) == 0 {
		close(cs.empty)
	}
}

// close refuses all claims that come from now on. It is called once.
func (cs *claims) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	if len(cs.live) == 0 {
		close(cs.empty)
	}
}

// at returns the live claim of a partition, or nil.
func (cs *claims) at(p partition) *claim {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.live[p]
}

// all returns the live claims for which want holds; nil is all.
func (cs *claims) all(want func(*claim) bool) (found []*claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, cl := range cs.live {
		if want == nil || want(cl) {
			found = append(found, cl)
		}
	}
	return found
}

// own returns the claim behind dc if it is, or was, one of these.
func (cs *claims) own(dc *driver.Claim) *claim {
	if cl, ok := dc.Backend.(*claim); ok && cl.among == cs {
		return cl
	}
	return nil
}

// arrived is called by the goroutine that reads for Sarama, when bytes of a partition
// are about to be decoded. Sarama has a channel of 256 records for a claim. A claim that is
// held for the time of a few large answers would keep all of them, and so would one whose
// deliver does not run for so long on a busy machine. So Sarama is stopped, before it can ask
// for more, when more than half a fetch has come since a pause began, and when an answer that
// makes more than a share comes while an earlier one has not been taken.
func (cs *claims) arrived(p partition, bytes, fetch int) {
	cl := cs.at(p)
	if cl == nil {
		return
	}
	if cl.paused.Load() && cl.held.Add(int64(bytes)) > int64(fetch/2) {
		cl.stop()
	}
	sum := cl.unread.Add(int64(bytes))
	if earlier := sum - int64(bytes); earlier > 0 && sum > int64(fetch*recordbatch.ShareFetches) {
		cl.fallBehind()
	}
}

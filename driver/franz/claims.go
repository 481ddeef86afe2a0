package franz

import (
	"sync"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

type partition = position.Partition

// byTopic returns partitions in the form that kgo asks for.
func byTopic(partitions ...partition) map[string][]int32 {
	m := map[string][]int32{}
	for _, p := range partitions {
		m[p.Topic] = append(m[p.Topic], p.ID)
	}
	return m
}

// flat returns what kgo names by topic.
func flat(m map[string][]int32) (partitions []partition) {
	for topic, ids := range m {
		for _, id := range ids {
			partitions = append(partitions, partition{Topic: topic, ID: id})
		}
	}
	return partitions
}

// claims are the claims of a consumer that have been assigned and have not ended. One that
// is being revoked is ending, and no longer live.
type claims struct {
	mu     sync.Mutex // guards what follows
	live   map[partition]*claim
	ending map[partition]*claim
}

func newClaims() *claims {
	return &claims{live: map[partition]*claim{}, ending: map[partition]*claim{}}
}

// admit makes cl live.
func (cs *claims) admit(cl *claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.live[cl.where] = cl
}

// take takes the claims for which want holds out of the live ones; nil is all. They are
// ending from then on, until they are removed.
func (cs *claims) take(want func(*claim) bool) (taken []*claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for p, cl := range cs.live {
		if want == nil || want(cl) {
			delete(cs.live, p)
			cs.ending[p] = cl
			taken = append(taken, cl)
		}
	}
	return taken
}

// remove takes out claims that have ended.
func (cs *claims) remove(claims []*claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, cl := range claims {
		if cs.ending[cl.where] == cl {
			delete(cs.ending, cl.where)
		}
	}
}

// at returns the live claim of a partition, or nil.
func (cs *claims) at(p partition) *claim {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.live[p]
}

// endingAt returns the claims of partitions that are being revoked.
func (cs *claims) endingAt(partitions []partition) (found []*claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, p := range partitions {
		if cl := cs.ending[p]; cl != nil {
			found = append(found, cl)
		}
	}
	return found
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

// undone returns the claims of a session that have not ended.
func (cs *claims) undone(s *session) (found []*claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, some := range []map[partition]*claim{cs.live, cs.ending} {
		for _, cl := range some {
			if cl.session == s {
				found = append(found, cl)
			}
		}
	}
	return found
}

// own returns the claim behind dc if it is, or was, one of these.
func (cs *claims) own(dc *driver.Claim) *claim {
	if dc == nil {
		return nil
	}
	if cl, ok := dc.Backend.(*claim); ok && cl.among == cs {
		return cl
	}
	return nil
}

// public returns what the core knows of claims.
func public(claims []*claim) []*driver.Claim {
	all := make([]*driver.Claim, len(claims))
	for i, cl := range claims {
		all[i] = cl.public
	}
	return all
}

// places returns the partitions of claims.
func places(claims []*claim) []partition {
	all := make([]partition, len(claims))
	for i, cl := range claims {
		all[i] = cl.where
	}
	return all
}

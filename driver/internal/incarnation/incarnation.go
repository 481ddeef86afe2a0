// Package incarnation knows which topic a name stands for. A topic is its ID, not its
// name (KIP-516): a topic that was deleted and created again is another topic, and the
// positions of the old one mean nothing in it.
//
// A client that fetches and commits by name does not notice the change. Then this would
// happen: a topic is deleted and created again; a claim goes on at offset 50 of the new
// log, and the records below 50 are never delivered; the positions of the old topic are
// committed to the new one.
package incarnation

import (
	"maps"
	"sync"
)

// An ID is the ID of a topic. The zero ID is unknown.
type ID [16]byte

// Eras counts, by topic, how often it was found to be another one.
type Eras map[string]int

// Topics knows which topic each name stands for. Several goroutines may use it.
type Topics struct {
	mu         sync.Mutex // guards what follows
	cluster    string
	current    map[string]ID
	superseded map[ID]bool // these never come back: a broker that is behind still names them
	eras       Eras
}

// New returns Topics that know nothing yet.
func New() *Topics {
	return &Topics{current: map[string]ID{}, superseded: map[ID]bool{}, eras: Eras{}}
}

// Learn adopts the IDs of topics that it does not know yet, as a broker of a cluster
// names them, and returns those that have another ID than before. A broker that does not
// know IDs names the zero ID. In another cluster all IDs are others: after a failover to
// a mirrored cluster the positions hold, so Learn adopts these, too.
func (t *Topics) Learn(cluster string, ids map[string]ID) (others map[string]ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cluster != "" && cluster != t.cluster {
		clear(t.current)
		t.cluster = cluster
	}
	for name, id := range ids {
		known := t.current[name]
		switch {
		case id == ID{}, id == known, t.superseded[id]:
		case known == ID{}:
			t.current[name] = id
		default:
			if others == nil {
				others = map[string]ID{}
			}
			others[name] = id
		}
	}
	return others
}

// Elect returns the ID that more brokers name for a topic than its current one, if there
// is one. A broker that is behind may name the old ID, so a single broker proves nothing:
// if the first answer came from such a broker, the right ID would be superseded
// permanently.
func (t *Topics) Elect(topic string, votes map[ID]int) (id ID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	best := votes[t.current[topic]]
	for candidate, n := range votes {
		if candidate != (ID{}) && candidate != t.current[topic] && !t.superseded[candidate] && n > best {
			id, ok, best = candidate, true, n
		}
	}
	return id, ok
}

// Supersede makes id the current ID of a topic. It reports false if it is already, or
// was before.
func (t *Topics) Supersede(topic string, id ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current[topic] == id || t.superseded[id] {
		return false
	}
	t.superseded[t.current[topic]] = true
	t.current[topic] = id
	t.eras[topic]++
	return true
}

// Era returns a number that changes whenever a topic turns out to be another one.
func (t *Topics) Era(topic string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.eras[topic]
}

// Eras returns the eras of all topics.
func (t *Topics) Eras() Eras {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.eras)
}

// Changed returns a topic that was found to be another one since eras, if there is one.
func (t *Topics) Changed(eras Eras) (topic string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, era := range t.eras {
		if eras[topic] != era {
			return topic, true
		}
	}
	return "", false
}

// Reborn reports whether a topic was found to be another one.
func (t *Topics) Reborn(topic string) bool { return t.Era(topic) > 0 }

// Holds reports whether a position that was earned in an era belongs to the topic that a
// broker names by id. The broker may be ahead of the consumer, or behind it.
func (t *Topics) Holds(topic string, era int, id ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	current := t.current[topic]
	return t.eras[topic] == era && (id == ID{} || current == ID{} || current == id)
}

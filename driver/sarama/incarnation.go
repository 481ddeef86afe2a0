package sarama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// A topic is its ID, not its name (KIP-516). Sarama 1.61 fetches and commits by
// name. So this would happen without a look at the IDs: a topic is deleted and
// created again; the claim goes on at offset 50 of the new log, and the records
// below 50 are never delivered; what is handled is committed to the new topic.
//
// The consumer learns the ID of each of its topics before it joins. It compares
// them every few seconds, at each assignment, before a position that is out of
// range is judged, and after each commit that a coordinator has acknowledged. The
// latter is why a commit counts: a broker's view of the metadata only moves
// forwards, so a coordinator that names the old ID after it has taken the commit
// took it for the old topic, and drops it together with that.

var noID ibm.Uuid

// errRecreated is why a claim ends whose topic has been created again, and why a
// commit does not count that a coordinator may have taken for another topic.
var errRecreated = errors.New("the topic was created again")

// An incarnations knows which topic each name stands for.
type incarnations struct {
	mu         sync.Mutex // guards what follows
	cluster    string
	current    map[string]ibm.Uuid
	superseded map[ibm.Uuid]bool // these never come back: a broker that is behind still names them
	eras       eras
}

// eras counts, by topic, how often it was found to be another one.
type eras map[string]int

func newIncarnations() *incarnations {
	return &incarnations{current: map[string]ibm.Uuid{}, superseded: map[ibm.Uuid]bool{}, eras: eras{}}
}

// learn adopts the IDs of topics that are new to the consumer, and returns those
// that have another ID than before. A broker that knows no IDs says nothing. In
// another cluster all IDs are others: after a failover to a mirrored cluster the
// positions hold, so these are adopted, too.
func (i *incarnations) learn(s survey) (others map[string]ibm.Uuid) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s.cluster != "" && s.cluster != i.cluster {
		clear(i.current)
		i.cluster = s.cluster
	}
	for name, t := range s.topics {
		known := i.current[name]
		switch {
		case t.id == noID, t.id == known, i.superseded[t.id]:
		case known == noID:
			i.current[name] = t.id
		default:
			if others == nil {
				others = map[string]ibm.Uuid{}
			}
			others[name] = t.id
		}
	}
	return others
}

// supersede makes id the current one of a topic. It reports false if it is already.
func (i *incarnations) supersede(topic string, id ibm.Uuid) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current[topic] == id || i.superseded[id] {
		return false
	}
	i.superseded[i.current[topic]] = true
	i.current[topic] = id
	i.eras[topic]++
	return true
}

// era returns a number that changes whenever the topic turns out to be another.
func (i *incarnations) era(topic string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.eras[topic]
}

// snapshot returns all eras.
func (i *incarnations) snapshot() eras {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.eras)
}

// reborn reports whether the topic was found to be another since the consumer
// was opened.
func (i *incarnations) reborn(topic string) bool { return i.era(topic) > 0 }

// holds reports whether what was earned in an era belongs to the topic that a
// broker names by id. The broker may be ahead of the consumer, or behind it.
func (i *incarnations) holds(topic string, era int, id ibm.Uuid) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.eras[topic] == era && (id == noID || i.current[topic] == noID || i.current[topic] == id)
}

// compare looks for topics of s that are others than they were. A broker that is
// behind could be the one that was asked first: then the old ID would seem to be
// the new one, and the right one would be superseded for as long as the consumer
// lives. So the change counts when more brokers name the new ID than the old one.
func (c *consumer) compare(ctx context.Context, s survey) {
	others := c.incarnations.learn(s)
	if len(others) == 0 {
		return
	}
	changed := map[string]ibm.Uuid{}
	votes := c.poll(ctx)
	for topic := range others {
		if id, ok := c.elected(topic, votes); ok {
			changed[topic] = id
		}
	}
	c.retire(changed)
}

// elected returns the ID that more brokers name than the current one.
func (c *consumer) elected(topic string, votes []survey) (id ibm.Uuid, ok bool) {
	count := map[ibm.Uuid]int{}
	for _, v := range votes {
		count[v.topics[topic].id]++
	}
	return c.incarnations.elect(topic, count)
}

func (i *incarnations) elect(topic string, count map[ibm.Uuid]int) (id ibm.Uuid, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	best := count[i.current[topic]]
	for candidate, n := range count {
		if candidate != noID && candidate != i.current[topic] && !i.superseded[candidate] && n > best {
			id, ok, best = candidate, true, n
		}
	}
	return id, ok
}

// poll asks all brokers for the topics, and waits for their answers or for ctx.
// One that does not answer has no vote.
func (c *consumer) poll(ctx context.Context) (votes []survey) {
	client := c.committer.client
	brokers := client.Brokers()
	answers := make(chan survey, len(brokers))
	for _, b := range brokers {
		c.asking.Go(func() { // ends when the broker has answered or the line is cut
			_ = b.Open(client.Config()) // it may be open
			s, err := askTopics(b, c.conf.Version, c.cfg.Topics)
			if err != nil {
				s = survey{}
			}
			answers <- s
		})
	}
	for range brokers {
		select {
		case s := <-answers:
			votes = append(votes, s)
		case <-ctx.Done():
			return votes
		}
	}
	return votes
}

// rivals reports whether any broker names an ID for the topic that may supersede
// the current one.
func (c *consumer) rivals(topic string, votes []survey) bool {
	for _, v := range votes {
		if len(c.incarnations.learn(survey{topics: map[string]topicState{topic: v.topics[topic]}})) > 0 {
			return true
		}
	}
	return false
}

const (
	rivalPatience = 5 * time.Second
	rivalPause    = 250 * time.Millisecond
)

// isAnother reports whether the topic has been created again since its claims
// began. As long as brokers disagree it asks again: the leader that has refused a
// position may be the first to know.
func (c *consumer) isAnother(ctx context.Context, topic string) bool {
	era := c.incarnations.era(topic)
	for began := time.Now(); ; {
		votes := c.poll(ctx)
		if id, ok := c.elected(topic, votes); ok {
			c.retire(map[string]ibm.Uuid{topic: id})
		}
		if c.incarnations.era(topic) != era {
			return true
		}
		if !c.rivals(topic, votes) || time.Since(began) > rivalPatience {
			return false
		}
		select {
		case <-time.After(rivalPause):
		case <-ctx.Done():
			return false
		}
	}
}

// retire ends the claims of topics that have been created again, and the session
// with them: Sarama cannot begin a single claim anew. The claims of other topics
// are revoked.
func (c *consumer) retire(topics map[string]ibm.Uuid) {
	changed := map[string]bool{}
	for topic, id := range topics {
		if c.incarnations.supersede(topic, id) {
			changed[topic] = true
		}
	}
	if len(changed) == 0 {
		return
	}
	lost := c.claims.all(func(cl *claim) bool { return changed[cl.where.topic] })
	c.mu.Lock()
	for _, cl := range lost {
		c.held[cl.where] = cl.position()
	}
	for topic := range changed {
		c.restarts[topic] = newRestart(c.held, topic)
	}
	for p := range c.astray {
		if changed[p.topic] {
			delete(c.astray, p) // the position of the old topic is of no account
		}
	}
	c.mu.Unlock()
	for topic := range changed {
		c.endRecreated(topic, lost)
	}
}

func (c *consumer) endRecreated(topic string, lost []*claim) {
	cause := recreated(topic)
	for _, cl := range lost {
		if cl.where.topic == topic {
			cl.setLost(cause)
		}
	}
	c.end(cause)
}

func recreated(topic string) error {
	return &driver.Error{
		Code: "INCONSISTENT_TOPIC_ID",
		Err:  fmt.Errorf("topic %s: %w", driver.Printable(topic, 0), errRecreated),
	}
}

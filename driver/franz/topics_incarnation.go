package franz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// The consumer learns the ID of each of its topics before it joins. It compares them every
// few seconds, at each assignment, before a position that is out of range is judged, and
// after each commit that a coordinator has acknowledged. The last of these is why a commit
// counts: a broker's view of the metadata only moves forwards, so a coordinator that names
// the old ID after it has taken the commit took it for the old topic, and drops it
// together with that topic.

// errRecreated is why a claim ends whose topic was created again, and why a commit does
// not count that a coordinator may have taken for another topic.
var errRecreated = errors.New("the topic was created again")

func recreated(topic string) error {
	return &driver.Error{
		Code: "INCONSISTENT_TOPIC_ID",
		Err:  fmt.Errorf("topic %s: %w", driver.Printable(topic, 0), errRecreated),
	}
}

// learn adopts the IDs of topics that are new to the consumer, and returns those that have
// another ID than before.
func (t *topics) learn(s survey) (others map[string]incarnation.ID) {
	return t.known.Learn(s.cluster, s.ids())
}

// owns reports whether a position that was earned in an era belongs to the topic that a
// broker knows, according to s. If not, the topics are looked at soon.
func (t *topics) owns(topic string, era int, s survey) bool {
	ok := t.known.Holds(topic, era, s.topics[topic].id)
	if !ok {
		t.doubt()
	}
	return ok
}

// isCurrent reports whether the topic of cl is still the one in which it began.
func (t *topics) isCurrent(cl *claim) bool { return t.known.Era(cl.where.Topic) == cl.era }

// compare looks for topics of s that are others than they were. The change counts when
// more brokers name the new ID than the old one: see [incarnation.Topics.Elect].
func (t *topics) compare(ctx context.Context, s survey) {
	others := t.learn(s)
	if len(others) == 0 {
		return
	}
	changed := map[string]incarnation.ID{}
	votes := t.poll(ctx)
	for topic := range others {
		if id, ok := t.elected(topic, votes); ok {
			changed[topic] = id
		}
	}
	t.retire(changed)
}

// elected returns the ID that more brokers name than the current one.
func (t *topics) elected(topic string, votes []survey) (id incarnation.ID, ok bool) {
	count := map[incarnation.ID]int{}
	for _, v := range votes {
		count[v.topics[topic].id]++
	}
	return t.known.Elect(topic, count)
}

// poll asks all brokers for the topics, and waits for their answers. A broker that does not
// answer within surveyTimeout has no vote. There is no vote at all if ctx ends before: the
// brokers that have answered may be those that are behind.
func (t *topics) poll(ctx context.Context) (votes []survey) {
	brokers := t.coordinator.client.DiscoveredBrokers()
	answers := make(chan survey, len(brokers))
	asking, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	for _, b := range brokers {
		t.asking.Go(func() { // ends when the broker has answered or asking ends
			s, err := askTopics(asking, b, t.names)
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
			return nil
		}
	}
	return votes
}

// rivals reports whether any broker names an ID for the topic that may supersede the
// current one.
func (t *topics) rivals(topic string, votes []survey) bool {
	for _, v := range votes {
		if len(t.known.Learn("", map[string]incarnation.ID{topic: v.topics[topic].id})) > 0 {
			return true
		}
	}
	return false
}

const (
	rivalPatience = 5 * time.Second
	rivalPause    = 250 * time.Millisecond
)

// isAnother reports whether the topic was created again since its claims began. As long as
// brokers disagree it asks again: the leader that has refused a position may be the first to
// know.
func (t *topics) isAnother(ctx context.Context, topic string) bool {
	era := t.known.Era(topic)
	for began := time.Now(); ; {
		votes := t.poll(ctx)
		if id, ok := t.elected(topic, votes); ok {
			t.retire(map[string]incarnation.ID{topic: id})
		}
		if t.known.Era(topic) != era {
			return true
		}
		if !t.rivals(topic, votes) || time.Since(began) > rivalPatience {
			return false
		}
		select {
		case <-time.After(rivalPause):
		case <-ctx.Done():
			return false
		}
	}
}

// retire supersedes the IDs of topics, and restarts those for which that is news.
func (t *topics) retire(ids map[string]incarnation.ID) {
	changed := map[string]bool{}
	for topic, id := range ids {
		if t.known.Supersede(topic, id) {
			changed[topic] = true
		}
	}
	if len(changed) > 0 {
		t.restart(changed)
	}
}

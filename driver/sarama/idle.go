package sarama

import (
	"errors"
	"time"
)

// idleAfter is how long, or at most twice as long, the producer remembers a topic to which it
// sends nothing, and a broker that leads no partition to which it sends. Without that, a
// process that sends to many short-lived topics would grow with each. Java's client forgets
// a topic after the same time. The names of these topics stay in Sarama's client.
const idleAfter = 5 * time.Minute

// errForgotten is why a topic takes no message: another object stands for its name now,
// or will.
var errForgotten = errors.New("the topic was idle, and has been forgotten")

// forgetIdle runs while the producer does.
func (p *producer) forgetIdle(every time.Duration) {
	for p.pause(every, nil) {
		p.sweep()
	}
}

// sweep forgets the topics and workers that have been idle since the sweep before.
func (p *producer) sweep() {
	for _, t := range p.allTopics() {
		t.forgetIfIdle()
	}
	for _, w := range p.allWorkers() {
		w.forgetIfIdle()
	}
}

func (t *topic) forgetIfIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	wasUsed := t.used
	t.used = false
	if wasUsed || t.forgotten || !t.idle() {
		return
	}
	for _, l := range t.lanes {
		t.p.producerIDs.leave(l.producer)
	}
	t.forgotten = true
	t.p.forgetTopic(t)
}

// idle reports whether no message of the topic waits or is on its way. It is called with mu
// held.
func (t *topic) idle() bool {
	if t.looking || t.choosing != nil || len(t.pending) > 0 || len(t.lost) > 0 {
		return false
	}
	for _, l := range t.lanes {
		if l.state != idle || l.batch != nil || l.queue.len() > 0 {
			return false
		}
	}
	return true
}

// forgetTopic is called with the topic's mutex held.
func (p *producer) forgetTopic(t *topic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.topics, t.name)
}

func (p *producer) allWorkers() (workers []*worker) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, w := range p.workers {
		workers = append(workers, w)
	}
	return workers
}

func (w *worker) forgetIfIdle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	wasUsed := w.used
	w.used = false
	if !wasUsed && !w.serving && len(w.lanes) == 0 {
		w.forgotten = true
		w.rouse()
	}
}

// forgetWorker lets go of w, unless another one has taken its place.
func (p *producer) forgetWorker(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers[w.id] == w {
		delete(p.workers, w.id)
	}
}

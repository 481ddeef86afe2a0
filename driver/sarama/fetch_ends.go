package sarama

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

const (
	// askEnds is the time between two rounds of requests for the ends of logs, and endAge
	// how old an end may be at a round. With requestTimeout that stays below the half
	// minute that the contract asks for.
	askEnds = 5 * time.Second
	endAge  = 8 * time.Second
)

// An endAsker asks the leaders for the high watermarks of claims that have not been
// answered for some time: because they are paused, or because Sarama does not fetch
// them. It has connections of its own, since a broker answers the requests of one
// connection in order, and one goroutine per broker, so that a silent one delays no
// other.
type endAsker struct {
	claims *claims
	data   ibm.Client // knows the leaders
	line   *dialer.Dialer
	conf   *ibm.Config // for connections of line

	mu      sync.Mutex // guards what follows
	brokers map[string]*ibm.Broker
	busy    map[string]bool
	closed  bool
	asking  sync.WaitGroup
}

func newEndAsker(claims *claims, line *dialer.Dialer, conf *ibm.Config) *endAsker {
	return &endAsker{
		claims: claims, line: line, conf: on(line, conf, requestTimeout),
		brokers: map[string]*ibm.Broker{}, busy: map[string]bool{},
	}
}

// run keeps the high watermarks of all claims young, until ctx ends.
func (a *endAsker) run(ctx context.Context, every, age time.Duration) {
	defer a.close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.round(age)
		case <-ctx.Done():
			return
		}
	}
}

func (a *endAsker) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.line.Sever()
	a.asking.Wait()
	for _, b := range a.brokers {
		b.Close()
	}
}

// round asks each leader for the claims whose end is older than age.
func (a *endAsker) round(age time.Duration) {
	now := time.Now()
	old := map[string][]*claim{}
	for _, cl := range a.claims.all(nil) {
		if !cl.feed.unheard(age, now) {
			continue
		}
		if leader, err := a.data.Leader(cl.where.Topic, cl.where.ID); err == nil {
			old[leader.Addr()] = append(old[leader.Addr()], cl)
		}
	}
	for addr, claims := range old {
		a.start(addr, claims)
	}
}

// start asks one leader, unless it still owes an answer.
func (a *endAsker) start(addr string, claims []*claim) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[addr] {
		return
	}
	a.busy[addr] = true
	at := map[partition]*claim{}
	for _, cl := range claims {
		at[cl.where] = cl
	}
	a.asking.Go(func() {
		a.ask(addr, slices.Collect(maps.Keys(at)), func(p partition, end int64) { at[p].feed.noteEnd(end, time.Now()) })
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, addr)
	})
}

// find begins to ask for the ends of logs. Each partition has a channel that gets the end, and
// that is closed then, or when its leader has failed. There are no channels once a is closed.
func (a *endAsker) find(partitions []partition) map[partition]<-chan int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(partitions) == 0 || a.closed {
		return nil
	}
	found, ends := map[partition]chan int64{}, map[partition]<-chan int64{}
	for _, p := range partitions {
		found[p] = make(chan int64, 1)
		ends[p] = found[p]
	}
	a.asking.Go(func() {
		led := map[string][]partition{}
		for _, p := range partitions {
			if leader, err := a.data.Leader(p.Topic, p.ID); err == nil {
				led[leader.Addr()] = append(led[leader.Addr()], p)
			} else {
				close(found[p])
			}
		}
		for addr, some := range led {
			a.asking.Go(func() {
				a.ask(addr, some, func(p partition, end int64) { found[p] <- end })
				for _, p := range some {
					close(found[p])
				}
			})
		}
	})
	return ends
}

// ask asks one broker for the ends of logs, open transactions included.
func (a *endAsker) ask(addr string, partitions []partition, note func(p partition, end int64)) {
	a.mu.Lock()
	b := a.brokers[addr]
	if b == nil {
		b = ibm.NewBroker(addr)
		a.brokers[addr] = b
	}
	a.mu.Unlock()
	if err := a.askBroker(b, partitions, note); err != nil {
		b.Close()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.brokers[addr] == b {
			delete(a.brokers, addr)
		}
	}
}

func (a *endAsker) askBroker(b *ibm.Broker, partitions []partition, note func(p partition, end int64)) error {
	if err := b.Open(a.conf); err != nil && err != ibm.ErrAlreadyConnected {
		return err
	}
	req := ibm.NewOffsetRequest(a.conf.Version)
	req.IsolationLevel = ibm.ReadUncommitted
	for _, p := range partitions {
		req.AddBlock(p.Topic, p.ID, ibm.OffsetNewest, 1)
	}
	resp, err := b.GetAvailableOffsets(req)
	if err != nil {
		return err
	}
	moved := map[string]bool{}
	for _, p := range partitions {
		block := resp.GetBlock(p.Topic, p.ID)
		switch {
		case block == nil:
		case block.Err == ibm.ErrNoError:
			note(p, block.Offset)
		default:
			moved[p.Topic] = true
		}
	}
	for topic := range moved {
		_ = a.data.RefreshMetadata(topic) // the next round finds the new leader
	}
	return nil
}

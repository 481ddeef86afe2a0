package sarama

import (
	"context"
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
	b := a.brokers[addr]
	if b == nil {
		b = ibm.NewBroker(addr)
		a.brokers[addr] = b
	}
	a.asking.Go(func() {
		err := a.ask(b, claims)
		if err != nil {
			b.Close()
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, addr)
		if err != nil {
			delete(a.brokers, addr)
		}
	})
}

// ask asks for the ends of logs, open transactions included.
func (a *endAsker) ask(b *ibm.Broker, claims []*claim) error {
	if err := b.Open(a.conf); err != nil && err != ibm.ErrAlreadyConnected {
		return err
	}
	req := ibm.NewOffsetRequest(a.conf.Version)
	req.IsolationLevel = ibm.ReadUncommitted
	for _, cl := range claims {
		req.AddBlock(cl.where.Topic, cl.where.ID, ibm.OffsetNewest, 1)
	}
	resp, err := b.GetAvailableOffsets(req)
	if err != nil {
		return err
	}
	now, moved := time.Now(), map[string]bool{}
	for _, cl := range claims {
		block := resp.GetBlock(cl.where.Topic, cl.where.ID)
		switch {
		case block == nil:
		case block.Err == ibm.ErrNoError:
			cl.feed.noteEnd(block.Offset, now)
		default:
			moved[cl.where.Topic] = true
		}
	}
	for topic := range moved {
		_ = a.data.RefreshMetadata(topic) // the next round finds the new leader
	}
	return nil
}

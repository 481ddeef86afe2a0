package sarama

import (
	"sync"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// requestRoom is the most that a request takes beside its batches.
const requestRoom = 10 << 10

// A worker sends the batches that are ready for one broker: one request at a time, with one
// batch per lane. Messages that are accepted while it waits for the answer go with the next
// request.
type worker struct {
	p    *producer
	id   int32 // of the broker
	wake chan struct{}
	done chan struct{}   // closed when run has returned
	over <-chan struct{} // done of the worker before, whose connection this one must not use; or nil

	mu        sync.Mutex // guards what follows; may be locked with a topic's held
	broker    *ibm.Broker
	lanes     []*lane
	serving   bool
	used      bool // since the last sweep of idle workers
	forgotten bool // see idle.go
}

// workerOf returns the worker of a broker, and starts it if it does not run.
func (p *producer) workerOf(broker *ibm.Broker) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.workers[broker.ID()]
	if before != nil && before.follow(broker) {
		return before
	}
	w := &worker{p: p, id: broker.ID(), wake: make(chan struct{}, 1), done: make(chan struct{}), broker: broker, used: true}
	if before != nil {
		w.over = before.done
	}
	p.workers[w.id] = w
	p.tasks.Go(w.run)
	return w
}

// follow has the worker use broker from now on. It reports false if the worker has
// been forgotten.
func (w *worker) follow(broker *ibm.Broker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broker, w.used = broker, true
	return !w.forgotten
}

// push takes a lane that is ready. It reports false, and does nothing, if the worker
// has been forgotten.
func (w *worker) push(l *lane) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forgotten {
		return false
	}
	w.used = true
	w.lanes = append(w.lanes, l)
	w.rouse()
	return true
}

func (w *worker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) take() (_ *ibm.Broker, lanes []*lane, forgotten bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lanes, w.lanes = w.lanes, nil
	w.serving = len(lanes) > 0
	return w.broker, lanes, w.forgotten
}

// run ends when the producer stops, or when the worker has been idle for long.
func (w *worker) run() {
	defer close(w.done)
	if w.over != nil {
		<-w.over
	}
	w.serveAll()
}

// serveAll closes the brokers that it has used: Sarama's client may have forgotten one.
func (w *worker) serveAll() {
	var last *ibm.Broker
	for {
		broker, lanes, forgotten := w.take()
		if last != nil && (broker != last || forgotten) {
			last.Close()
		}
		last = broker
		switch {
		case len(lanes) > 0:
			w.serve(broker, lanes)
			continue
		case forgotten:
			w.p.forgetWorker(w)
			return
		}
		select {
		case <-w.wake:
		case <-w.p.stopped:
			if last != nil {
				last.Close()
			}
			return
		}
	}
}

func (w *worker) serve(broker *ibm.Broker, lanes []*lane) {
	if err := w.p.connect(broker); err != nil {
		for _, l := range lanes {
			l.topic.mu.Lock()
			endings := l.missed(err)
			l.topic.mu.Unlock()
			l.topic.acknowledge(endings)
		}
		return
	}
	if batches := w.load(lanes); len(batches) > 0 {
		w.exchange(broker, batches)
	}
}

// connect connects to broker if it is not connected, and returns why that failed.
func (p *producer) connect(broker *ibm.Broker) error {
	if connected, _ := broker.Connected(); connected {
		return nil
	}
	broker.Open(p.client.Config()) // its only error is that it is open already
	connected, err := broker.Connected()
	if connected {
		return nil
	}
	if err == nil {
		err = ibm.ErrNotConnected
	}
	p.reasons.note(err)
	return p.reasons.blame(err)
}

// load takes a batch of each lane, as far as one request can carry them.
func (w *worker) load(lanes []*lane) (batches []*outBatch) {
	room := int(ibm.MaxRequestSize) - requestRoom
	for _, l := range lanes {
		l.topic.mu.Lock()
		b, endings := l.load()
		switch {
		case b == nil:
		case len(batches) > 0 && b.size > room:
			w.push(l)
		default:
			l.state, b.written = sent, false
			room -= b.size
			batches = append(batches, b)
		}
		l.topic.mu.Unlock()
		l.topic.acknowledge(endings)
	}
	return batches
}

// load returns the batch that is to be sent now, or nil if the lane has none, or has no
// sequence number for it. It is called with mu held.
func (l *lane) load() (*outBatch, []ending) {
	if l.batch == nil && l.queue.len() == 0 {
		l.state = idle
		return nil, nil
	}
	if l.batch == nil {
		l.cut()
	}
	if !l.number() {
		return nil, l.missed(errNoIdentity)
	}
	return l.batch, nil
}

// exchange sends a request and settles its batches.
func (w *worker) exchange(broker *ibm.Broker, batches []*outBatch) {
	resp, err, sent := w.ask(broker, batches)
	if unencodable(err) && len(batches) > 1 { // one of them cannot be encoded: find out which
		for _, b := range batches {
			w.exchange(broker, []*outBatch{b})
		}
		return
	}
	if err != nil && !unencodable(err) {
		broker.Close() // the next bytes on it would be taken for the answer
	}
	for _, b := range batches {
		b.settle(w.answerFor(b, resp, err, sent))
	}
}

// ask sends a request and returns the answer, or why none came and whether the request may
// have been sent.
func (w *worker) ask(broker *ibm.Broker, batches []*outBatch) (resp *ibm.ProduceResponse, err error, sent bool) {
	answered := make(chan struct{})
	before := w.p.line.Produces(broker.Addr())
	sendErr := broker.AsyncProduce(w.p.request(batches), func(r *ibm.ProduceResponse, e error) {
		resp, err = r, e
		close(answered)
	})
	if sendErr != nil {
		return nil, sendErr, w.p.line.Produces(broker.Addr()) != before
	}
	if w.p.cfg.RequiredAcks == driver.NoResponse {
		return nil, nil, true
	}
	if w.p.cfg.DeliveryTimeout > 0 {
		markWritten(batches)
	}
	<-answered // or its time is up, or the connection broken
	return resp, err, true
}

func markWritten(batches []*outBatch) {
	for _, b := range batches {
		b.lane.topic.mu.Lock()
		b.written = true
		b.lane.topic.mu.Unlock()
	}
}

// answerFor returns the answer for one batch of an exchange.
func (w *worker) answerFor(b *outBatch, resp *ibm.ProduceResponse, err error, sent bool) answer {
	switch {
	case err != nil:
		return answer{err: w.p.reasons.blame(err), unknown: sent}
	case w.p.cfg.RequiredAcks == driver.NoResponse:
		return answer{block: &ibm.ProduceResponseBlock{Offset: -1}}
	}
	block := resp.GetBlock(b.lane.topic.name, b.lane.id)
	if block == nil {
		return answer{err: ibm.ErrIncompleteResponse, unknown: true}
	}
	return answer{block: block}
}

// request returns the request that carries batches, in the newest version that the
// configuration allows. Sarama lowers it to one that the broker supports.
func (p *producer) request(batches []*outBatch) *ibm.ProduceRequest {
	req := &ibm.ProduceRequest{
		RequiredAcks: p.conf.Producer.RequiredAcks,
		Timeout:      int32(p.conf.Producer.Timeout.Milliseconds()),
		Version:      3,
	}
	for _, v := range []struct {
		since   ibm.KafkaVersion
		version int16
	}{{ibm.V1_0_0_0, 5}, {ibm.V2_0_0_0, 6}, {ibm.V2_1_0_0, 7}, {ibm.V2_4_0_0, 8}, {ibm.V2_8_0_0, 9}, {ibm.V3_7_0_0, 10}} {
		if p.conf.Version.IsAtLeast(v.since) {
			req.Version = v.version
		}
	}
	for _, b := range batches {
		req.AddBatch(b.lane.topic.name, b.lane.id, b.records)
	}
	return req
}

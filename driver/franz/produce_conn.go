package franz

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	lengthBytes = 4 // of the length that comes before a request and an answer
	headBytes   = 8 // that length, and the correlation ID of an answer
)

// A produceConn is a connection of a producer on which produce requests and their answers are
// followed. The driver learns what has happened to a batch before kgo does.
type produceConn struct {
	net.Conn
	p *producer

	mu      sync.Mutex // guards what follows
	waiting []sending  // requests without an answer, in order
	login   *request   // the latest request to authenticate by a token, if it has no answer

	// Used by the one goroutine that reads.
	answer []byte // the answer that is coming, as far as it has come
	rest   int    // bytes of it that are still to come and need not be kept
	stale  bool   // the broker has refused the token
}

// A request is the head of a request.
type request struct {
	correlation int32
	version     int16
}

// errStale reports a token that the broker has refused. The source may return another one next
// time, so kgo must try again. Otherwise it would fail all messages of the broker, permanently.
type errStale struct{}

func (errStale) Error() string {
	return "the token was refused: " + kerr.SaslAuthenticationFailed.Error()
}
func (errStale) Unwrap() error   { return kerr.SaslAuthenticationFailed }
func (errStale) Timeout() bool   { return false }
func (errStale) Temporary() bool { return true }

// A sending is a produce request that has no answer yet.
type sending struct {
	correlation int32
	version     int16
	batches     []outBatch
}

// An outBatch is one batch of a request.
type outBatch struct {
	lane *lane
	n    int64 // records
	era  int
}

// Write implements net.Conn. kgo writes a request by one call.
func (w *produceConn) Write(b []byte) (int, error) {
	x, left, ok := w.p.sendingOf(b)
	answers := w.p.cfg.RequiredAcks != driver.NoResponse
	if !ok {
		w.noteLogin(b)
		return w.Conn.Write(b)
	}
	for i := range x.batches {
		o := &x.batches[i]
		o.era = o.lane.wrote(o.n)
	}
	if answers {
		w.mu.Lock()
		w.waiting = append(w.waiting, x)
		w.mu.Unlock()
	}
	n, err := w.Conn.Write(left)
	switch {
	case err != nil && answers:
		w.lose()
	case answers:
	case err == nil:
		x.stored()
	case n > 0:
		x.lose()
	default:
		x.unwrite()
	}
	if err == nil {
		n = len(b)
	}
	return n, err
}

// Read implements net.Conn.
func (w *produceConn) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.follow(b[:n])
	if w.stale {
		n, err = 0, errStale{}
	}
	if err != nil {
		w.lose()
	}
	return n, err
}

// Close implements net.Conn.
func (w *produceConn) Close() error {
	w.lose()
	return w.Conn.Close()
}

// lose notes that no answer comes to the requests that wait for one.
func (w *produceConn) lose() {
	w.mu.Lock()
	waiting := w.waiting
	w.waiting = nil
	w.mu.Unlock()
	for _, x := range waiting {
		x.lose()
	}
}

func (x sending) lose() {
	for _, o := range x.batches {
		o.lane.answered(o.n, o.era, nil, true)
	}
}

// stored notes that the batches are with the broker, which does not answer.
func (x sending) stored() {
	for _, o := range x.batches {
		o.lane.answered(o.n, o.era, nil, false)
	}
}

// unwrite notes that nothing of the batches was written.
func (x sending) unwrite() {
	for _, o := range x.batches {
		o.lane.unwrote(o.era)
	}
}

// follow looks at a piece of the answers.
func (w *produceConn) follow(b []byte) {
	for len(b) > 0 {
		if w.rest > 0 && w.answer == nil {
			n := min(w.rest, len(b))
			w.rest -= n
			b = b[n:]
			continue
		}
		need := headBytes
		if len(w.answer) >= headBytes {
			need = lengthBytes + int(binary.BigEndian.Uint32(w.answer))
		}
		n := min(need-len(w.answer), len(b))
		w.answer = append(w.answer, b[:n]...)
		b = b[n:]
		if len(w.answer) < need {
			return
		}
		if need == headBytes {
			n := int(binary.BigEndian.Uint32(w.answer)) - (headBytes - lengthBytes)
			if n <= 0 || !w.expects(int32(binary.BigEndian.Uint32(w.answer[lengthBytes:]))) {
				w.rest, w.answer = max(n, 0), nil
			}
			continue
		}
		answer := w.answer
		w.answer = nil
		if !w.judge(answer) {
			w.settle(answer)
		}
	}
}

// noteLogin notes a request to authenticate by a token.
func (w *produceConn) noteLogin(b []byte) {
	if s := w.p.cfg.SASL; s == nil || s.Mechanism != driver.SASLOAuthBearer || len(b) < headBytes+lengthBytes {
		return
	}
	if binary.BigEndian.Uint16(b[lengthBytes:]) != uint16(kmsg.SASLAuthenticate) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.login = &request{int32(binary.BigEndian.Uint32(b[8:])), int16(binary.BigEndian.Uint16(b[6:]))}
}

// judge takes the answer to the request to authenticate. It reports false if answer is none.
func (w *produceConn) judge(answer []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.login == nil {
		return false
	}
	resp := kmsg.SASLAuthenticateResponse{Version: w.login.version}
	w.login = nil
	body := answer[headBytes:]
	if resp.IsFlexible() && len(body) > 0 {
		body = body[1:]
	}
	w.stale = resp.ReadFrom(body) == nil && resp.ErrorCode == kerr.SaslAuthenticationFailed.Code
	return true
}

// expects reports whether the answer with this correlation ID is one to look at.
func (w *produceConn) expects(correlation int32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) > 0 && w.waiting[0].correlation == correlation || w.login != nil && w.login.correlation == correlation
}

// settle takes a whole answer to the first request that waits.
func (w *produceConn) settle(answer []byte) {
	w.mu.Lock()
	if len(w.waiting) == 0 {
		w.mu.Unlock()
		return
	}
	x := w.waiting[0]
	w.waiting = w.waiting[1:]
	w.mu.Unlock()
	resp := kmsg.ProduceResponse{Version: x.version}
	body := answer[headBytes:]
	if resp.IsFlexible() && len(body) > 0 {
		body = body[1:] // the tagged fields of the head, which no broker sends
	}
	if err := resp.ReadFrom(body); err != nil {
		x.lose()
		return
	}
	for _, o := range x.batches {
		if rp := partOf(&resp, o.lane); rp == nil {
			o.lane.answered(o.n, o.era, nil, true)
		} else if err := kerr.ErrorForCode(rp.ErrorCode); err == nil || errors.Is(err, kerr.DuplicateSequenceNumber) {
			o.lane.answered(o.n, o.era, nil, false)
		} else {
			o.lane.answered(o.n, o.era, err, false)
		}
	}
}

func partOf(resp *kmsg.ProduceResponse, l *lane) *kmsg.ProduceResponseTopicPartition {
	for i := range resp.Topics {
		if resp.Topics[i].Topic != l.topic.name {
			continue
		}
		for j := range resp.Topics[i].Partitions {
			if rp := &resp.Topics[i].Partitions[j]; rp.Partition == l.id {
				return rp
			}
		}
	}
	return nil
}

// sendingOf reads a request. It reports false if it is none to produce. It returns the batches
// that are to be written, and the request with no others.
//
// A batch is left out if kgo has given its records back: the caller may have sent them again. If
// kgo did so before it built the request, the partition is there without a batch; a broker of
// Kafka 4.3 fails at that, and never answers. Rarely such a batch is written all the same: see has.
func (p *producer) sendingOf(b []byte) (x sending, left []byte, ok bool) {
	const head = lengthBytes + 2 + 2 + 4 + 2 // and the key, the version, the correlation ID, the length of the client ID
	if len(b) < head || binary.BigEndian.Uint16(b[lengthBytes:]) != uint16(kmsg.Produce) {
		return x, b, false
	}
	x.version = int16(binary.BigEndian.Uint16(b[6:]))
	x.correlation = int32(binary.BigEndian.Uint32(b[8:]))
	body := b[head:]
	if n := int(int16(binary.BigEndian.Uint16(b[12:]))); n > 0 {
		body = body[min(n, len(body)):]
	}
	req := kmsg.ProduceRequest{Version: x.version}
	if req.IsFlexible() && len(body) > 0 {
		body = body[1:]
	}
	if req.ReadFrom(body) != nil {
		return x, b, false
	}
	whole := true
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := p.topic(rt.Topic)
		kept := rt.Partitions[:0]
		for _, part := range rt.Partitions {
			o := outBatch{lane: t.lane(part.Partition), n: recordsIn(part.Records)}
			if o.n == 0 || !o.lane.has(o.n) {
				whole = false
				continue
			}
			x.batches = append(x.batches, o)
			kept = append(kept, part)
		}
		rt.Partitions = kept
	}
	if whole {
		return x, b, true
	}
	req.Topics = slices.DeleteFunc(req.Topics, func(rt kmsg.ProduceRequestTopic) bool { return len(rt.Partitions) == 0 })
	left = req.AppendTo(slices.Clone(b[:len(b)-len(body)]))
	binary.BigEndian.PutUint32(left, uint32(len(left)-lengthBytes))
	return x, left, true
}

// recordsIn returns how many records a batch holds.
func recordsIn(batch []byte) int64 {
	const lastOffsetDelta = 8 + 4 + 4 + 1 + 4 + 2
	if len(batch) < lastOffsetDelta+4 {
		return 0
	}
	return int64(binary.BigEndian.Uint32(batch[lastOffsetDelta:])) + 1
}

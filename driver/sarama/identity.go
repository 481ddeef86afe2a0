package sarama

import (
	"errors"
	"fmt"
	"math"
	"sync"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// An identity is the producer ID and the epoch of an idempotent producer.
type identity struct {
	id    int64
	epoch int16
}

var noIdentity = identity{-1, -1}

const (
	identityRetries = 50 // with askAgain between: a coordinator may be loading
)

// errBrokenIdentity is an answer without a producer ID. To go on without one would give up
// idempotence silently.
var errBrokenIdentity = errors.New("broken answer to InitProducerID")

// producerIDs hands out the identity of a producer.
type producerIDs struct {
	ask func() (identity, error)

	mu  sync.Mutex // guards what follows
	now identity
}

// current returns the identity, or noIdentity if a new one must be asked for.
func (p *producerIDs) current() identity {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// retire makes old, whose epochs are used up, no longer the current identity.
func (p *producerIDs) retire(old identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.id == old.id {
		p.now = noIdentity
	}
}

// leave makes the next caller that asks for the identity begin a later epoch than old: the
// producer has forgotten the sequence numbers of old, and the broker remembers them.
func (p *producerIDs) leave(old identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case old == noIdentity, p.now.id != old.id, p.now.epoch > old.epoch:
	case old.epoch == math.MaxInt16:
		p.now = noIdentity
	default:
		p.now.epoch = old.epoch + 1
	}
}

// ensure asks for an identity if one is needed and none is known.
func (p *producerIDs) ensure() error {
	if p.ask == nil || p.current() != noIdentity {
		return nil
	}
	fresh, err := p.ask()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = fresh
	return nil
}

// askIdentity asks the brokers for a new producer ID.
func (p *producer) askIdentity() (identity, error) {
	for try := 0; ; try++ {
		id, err := p.askEach()
		if err == nil || try >= identityRetries || p.severed() || isPermanent(wrap(err)) || isBroken(err) {
			return id, err
		}
		p.line.Wait(askAgain)
	}
}

// isBroken reports whether a broker has given a broken answer: to ask again at once would
// bring the same one.
func isBroken(err error) bool {
	var answer *response.Error
	return errors.Is(err, errBrokenIdentity) || errors.As(err, &answer)
}

// askEach asks one broker after the other until one answers.
func (p *producer) askEach() (identity, error) {
	var errs []error
	for _, addr := range p.cfg.Brokers {
		id, err := p.askBroker(addr)
		if err == nil {
			return id, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return noIdentity, errors.Join(errs...)
}

func (p *producer) askBroker(addr string) (identity, error) {
	b := ibm.NewBroker(addr)
	conf := p.client.Config()
	if err := b.Open(conf); err != nil {
		return noIdentity, err
	}
	defer b.Close()
	if _, err := b.Connected(); err != nil {
		return noIdentity, err
	}
	resp, err := b.InitProducerID(identityRequest(conf.Version))
	switch {
	case err != nil:
		return noIdentity, err
	case resp.Err != ibm.ErrNoError:
		return noIdentity, resp.Err
	case resp.ProducerID < 0 || resp.ProducerEpoch < 0:
		return noIdentity, fmt.Errorf("%w: producer ID %d, epoch %d", errBrokenIdentity, resp.ProducerID, resp.ProducerEpoch)
	}
	return identity{resp.ProducerID, resp.ProducerEpoch}, nil
}

// identityRequest asks in the newest version that v has.
func identityRequest(v ibm.KafkaVersion) *ibm.InitProducerIDRequest {
	req := &ibm.InitProducerIDRequest{ProducerID: noIdentity.id, ProducerEpoch: noIdentity.epoch}
	for i, since := range []ibm.KafkaVersion{ibm.V2_0_0_0, ibm.V2_4_0_0, ibm.V2_5_0_0, ibm.V2_7_0_0} {
		if v.IsAtLeast(since) {
			req.Version = int16(i + 1)
		}
	}
	return req
}

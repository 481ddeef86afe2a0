package sarama

import (
	"errors"
	"sync"

	ibm "github.com/IBM/sarama"
)

// reasons remembers why brokers could not be reached. Sarama says so at the first
// attempt, and afterwards only that they are not.
type reasons struct {
	mu        sync.Mutex // guards what follows
	permanent error      // until a broker has answered
	latest    error      // that says more than that there is no connection
}

// note keeps what a request for metadata, or a connection, has met. What an answer
// says of topics is said of these only.
func (r *reasons) note(err error) {
	reason := wrap(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case bare(err):
		return
	case err == nil, isCode(reason, ibm.ErrTopicAuthorizationFailed, ibm.ErrInvalidTopic):
		r.permanent, r.latest = nil, nil
	case isPermanent(reason):
		r.permanent = reason
	case len(kafkaErrors(err)) > 0: // an answer
		r.permanent, r.latest = nil, nil
	default:
		r.latest = err
	}
}

// blame returns err with why the brokers cannot be reached, where Sarama says
// only that they are not.
func (r *reasons) blame(err error) error {
	if err == nil || len(kafkaErrors(err)) > 0 {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.permanent != nil:
		return errors.Join(err, r.permanent)
	case r.latest != nil && bare(err):
		return errors.Join(err, r.latest)
	}
	return err
}

// bare reports whether err says that there is no connection, and not why.
func bare(err error) bool {
	return err == ibm.ErrOutOfBrokers || err == ibm.ErrNotConnected ||
		errors.Is(err, ibm.ErrOutOfBrokers) && err.Error() == ibm.ErrOutOfBrokers.Error()
}

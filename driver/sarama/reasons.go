package sarama

import (
	"errors"
	"sync"

	ibm "github.com/IBM/sarama"
)

// reasons remembers why brokers could not be reached. Sarama returns the reason at the first
// attempt, and afterwards only that they are not reached.
type reasons struct {
	mu        sync.Mutex // guards what follows
	permanent error      // until a broker has answered
	latest    error      // with more than that no connection exists
}

// note keeps the error of a request for metadata or of a connection. An error of topics in
// an answer concerns only these.
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

// blame adds to err why the brokers cannot be reached, if Sarama returns only that they are
// not.
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

// bare reports whether err reports that no connection exists, and not why.
func bare(err error) bool {
	return err == ibm.ErrOutOfBrokers || err == ibm.ErrNotConnected ||
		errors.Is(err, ibm.ErrOutOfBrokers) && err.Error() == ibm.ErrOutOfBrokers.Error()
}

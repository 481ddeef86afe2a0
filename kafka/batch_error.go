package kafka

import (
	"errors"
	"fmt"
	"sync"
)

// A BatchError says which records of a batch have failed. The records that it does not
// name are done. A handler that stops early must therefore use AddFrom: the records
// behind the one that failed were not handled.
//
//	func handle(ctx context.Context, ms []*kafka.Message) error {
//		var failed kafka.BatchError
//		for _, m := range ms {
//			failed.Add(m, store(ctx, m))
//		}
//		return failed.Err()
//	}
//
// Each error may carry a mark, such as Skip, and decides for its record alone. Records
// that failed come again together and without the others, before any later record of
// their partition, each with its own count of attempts.
//
// The error of the call may wrap the BatchError, as fmt.Errorf does with %w; a mark
// around it applies to each record that it names. Inside errors.Join, or if it names a
// record that is not of this batch, the whole batch fails.
//
// Its zero value is ready for use, for one call of the handler. Its methods may be
// called by several goroutines at once.
type BatchError struct {
	mu    sync.Mutex
	order []recordKey
	errs  map[recordKey]error
	from  map[recordKey]bool // behind these the others were not handled
	rest  error              // of all others together, if HandleBatches has given them to a handler that failed
}

// A recordKey names a record of a batch: each attempt gets messages of its own.
type recordKey struct {
	TopicPartition
	offset int64
}

func recordKeyOf(m *Message) recordKey {
	if m == nil {
		return recordKey{offset: -1} // a record of no batch
	}
	return recordKey{TopicPartition{m.Topic, m.Partition}, m.Offset}
}

// errNoError is of a record that AddFrom names without an error: what is behind it must
// not count as done.
var errNoError = errors.New("BatchError.AddFrom without an error")

// Add says that m has failed with err. It does nothing if err is nil.
func (e *BatchError) Add(m *Message, err error) {
	if err != nil {
		e.add(m, err, false)
	}
}

// AddFrom says that m has failed with err, and that the later records of the batch were
// not handled. These come again with it, and only m counts an attempt.
func (e *BatchError) AddFrom(m *Message, err error) {
	if err == nil {
		err = errNoError
	}
	e.add(m, err, true)
}

// join adds what a handler came to that got the records that e does not name. A
// BatchError that names none is an error like any other.
func (e *BatchError) join(err error) {
	named, around := batchErrorOf(err)
	if named == nil || named.Err() == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.rest = err
		return
	}
	named.mu.Lock()
	defer named.mu.Unlock()
	for _, key := range named.order {
		err := named.errs[key]
		if around.set {
			err = marked(err, around)
		}
		e.addKey(key, err, named.from[key])
	}
}

func (e *BatchError) add(m *Message, err error, from bool) { e.addKey(recordKeyOf(m), err, from) }

func (e *BatchError) addKey(key recordKey, err error, from bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.errs == nil {
		e.errs, e.from = make(map[recordKey]error), make(map[recordKey]bool)
	}
	if first, twice := e.errs[key]; twice {
		err = errors.Join(first, err)
	} else {
		e.order = append(e.order, key)
	}
	e.errs[key] = err
	e.from[key] = e.from[key] || from
}

// Err returns e, or nil if no record was added.
func (e *BatchError) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.order) == 0 {
		return nil
	}
	return e
}

// Error says how many records have failed and how the first one did.
func (e *BatchError) Error() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.order) == 0 {
		return "no record of the batch failed"
	}
	first := e.order[0]
	return fmt.Sprintf("%d records of the batch failed, the first %v at offset %d: %v",
		len(e.order), first.TopicPartition, first.offset, e.errs[first])
}

// Unwrap returns the errors of the records in the order in which they were added.
func (e *BatchError) Unwrap() []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	errs := make([]error, len(e.order))
	for i, key := range e.order {
		errs[i] = e.errs[key]
	}
	if e.rest != nil {
		errs = append(errs, e.rest)
	}
	return errs
}

// batchErrorOf returns the BatchError that a call of a handler came to, and the mark
// around it.
func batchErrorOf(err error) (e *BatchError, around mark) {
	for err != nil {
		switch next := err.(type) {
		case *BatchError:
			return next, around
		case *PanicError:
			return nil, mark{}
		case *markedError:
			if !around.set {
				around = next.mark
			}
		}
		err = errors.Unwrap(err)
	}
	return nil, mark{}
}

// of returns the errors of those of keys that are named, in order, and which of the
// others were not handled. It returns false if e names another record, or none.
func (e *BatchError) of(keys []recordKey, around mark) (errs []error, unhandled []bool, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	errs, unhandled = make([]error, len(keys)), make([]bool, len(keys))
	found, behind := 0, false
	for i, key := range keys {
		err, named := e.errs[key]
		if !named {
			unhandled[i] = behind
			continue
		}
		found++
		behind = behind || e.from[key]
		if errs[i] = err; around.set {
			errs[i] = marked(err, around)
		}
	}
	return errs, unhandled, found > 0 && found == len(e.order)
}

// restOf returns the error of the records that are not named, or nil if they are done.
func (e *BatchError) restOf(around mark) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rest != nil && around.set {
		return marked(e.rest, around)
	}
	return e.rest
}

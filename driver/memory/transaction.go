package memory

import "slices"

// A Transaction sends records that ReadCommitted consumers see together or never.
type Transaction struct {
	b     *Broker
	state transactionState
	logs  []*partitionLog // in which it has records
}

type transactionState int

const (
	open transactionState = iota
	committed
	aborted
)

// Begin opens a transaction without a producer. While it is open, a ReadCommitted
// consumer stops at its first record in each partition.
func (b *Broker) Begin() *Transaction { return &Transaction{b: b} }

// Send is [Broker.Send] within the transaction.
func (tx *Transaction) Send(topic string, key, value []byte, opts ...SendOption) error {
	tx.b.mu.Lock()
	defer tx.b.mu.Unlock()
	if err := tx.mustBeOpen(); err != nil {
		return err
	}
	return tx.b.sendFromOutside(tx, topic, key, value, opts)
}

// Commit makes the records readable and appends a control record to each partition.
func (tx *Transaction) Commit() error { return tx.end(committed) }

// Abort hides the records from ReadCommitted consumers permanently and appends a control
// record to each partition.
func (tx *Transaction) Abort() error { return tx.end(aborted) }

func (tx *Transaction) end(state transactionState) error {
	tx.b.mu.Lock()
	defer tx.b.mu.Unlock()
	if err := tx.mustBeOpen(); err != nil {
		return err
	}
	tx.state = state
	for _, l := range tx.logs {
		l.finish(tx)
	}
	return nil
}

func (tx *Transaction) mustBeOpen() error {
	if tx.state != open {
		return failPermanently("INVALID_TXN_STATE", "the transaction has ended")
	}
	return nil
}

func (tx *Transaction) touch(l *partitionLog) {
	if !slices.Contains(tx.logs, l) {
		tx.logs = append(tx.logs, l)
	}
}

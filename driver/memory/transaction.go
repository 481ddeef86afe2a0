package memory

import "slices"

// A Transaction sends messages that committed readers see together or never.
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

// Begin opens a transaction from outside. While it is open, a ReadCommitted
// consumer reads no further than its first record in a partition.
func (b *Broker) Begin() *Transaction { return &Transaction{b: b} }

// Send is as [Broker.Send], within the transaction.
func (tx *Transaction) Send(topic string, key, value []byte, opts ...SendOption) error {
	tx.b.mu.Lock()
	defer tx.b.mu.Unlock()
	if err := tx.mustBeOpen(); err != nil {
		return err
	}
	return tx.b.sendFromOutside(tx, topic, key, value, opts)
}

// Commit makes the records readable, and leaves a control record behind them.
func (tx *Transaction) Commit() error { return tx.end(committed) }

// Abort hides the records from ReadCommitted consumers for good, and leaves a
// control record behind them.
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
		return failForGood("INVALID_TXN_STATE", "the transaction has ended")
	}
	return nil
}

func (tx *Transaction) touch(l *partitionLog) {
	if !slices.Contains(tx.logs, l) {
		tx.logs = append(tx.logs, l)
	}
}

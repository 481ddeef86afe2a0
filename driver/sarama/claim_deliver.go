package sarama

import (
	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// deliver hands records to the core until the claim is taken away: until the
// session or the consumer ends, or until Sarama closes the channel.
func (cl *claim) deliver(messages <-chan *ibm.ConsumerMessage, done <-chan struct{}) {
	defer cl.core.Recovered("Deliver")
	for {
		if cl.paused.Load() && !cl.awaitResume(done) {
			return
		}
		if cl.behind.Load() && len(messages) == 0 {
			cl.catchUp()
		}
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			records, bytes := cl.gather(m, messages)
			if len(records) > 0 {
				cl.core.Handler.Deliver(cl.public, driver.Batch{Records: records})
			}
			cl.took(bytes)
		case <-done:
			return
		case <-cl.closing:
			return
		case <-cl.signal:
		}
	}
}

// gather takes the records that have come, without waiting, and says how many bytes they make.
// This goroutine is the only one that receives, so the records that len counts stay.
func (cl *claim) gather(m *ibm.ConsumerMessage, messages <-chan *ibm.ConsumerMessage) (records []driver.Record, bytes int64) {
	n := len(messages)
	records = make([]driver.Record, 0, n+1) // the core keeps it
	for {
		bytes += int64(len(m.Key) + len(m.Value) + recordCost)
		if m.Offset >= cl.skip {
			records = append(records, record(m))
		}
		if n == 0 {
			return records, bytes
		}
		n--
		m = <-messages
	}
}

// record converts m. Sarama has made the bytes that it points to for m alone.
func record(m *ibm.ConsumerMessage) driver.Record {
	r := driver.Record{Offset: m.Offset, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value}
	if len(m.Headers) > 0 {
		r.Headers = make([]driver.Header, len(m.Headers))
		for i, h := range m.Headers {
			r.Headers[i] = driver.Header{Key: string(h.Key), Value: h.Value}
		}
	}
	return r
}

package kafka

import "github.com/aarontianqx/gopkg/driver"

// sift looks at the records that the lane has just taken from a retry topic. Those that
// another group has sent there are passed over: that group handles them, and a consumer
// that did as well would send them there again, twice as many each time. If a hook ends
// the goroutine, the lane's next one goes on with the same record: hooks that have not
// heard of it yet do.
func (l *lane) sift() {
	for ; l.sifted < len(l.run.Records); l.sifted++ {
		r := &l.run.Records[l.sifted]
		switch _, s, owner := l.env.retries.read(r.Headers); s {
		case unmarked:
			l.env.unmarked()
		case foreign:
			l.passOver(r.Offset, driver.Printable(owner, maxNameBytes))
		}
	}
}

// passOver reports a record of another group, and then lets the position pass it.
func (l *lane) passOver(offset int64, owner string) {
	l.env.log.Warn("kafka: record of another group passed over",
		"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", offset, "owner", owner)
	l.env.event(RecordPassedOver{
		JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim), Offset: offset, Owner: owner,
	})
	l.hands.passOver(l, offset)
}

package kafka

import "github.com/aarontianqx/gopkg/driver"

// sift looks at the records that the lane has just taken from a retry topic. Those that
// another group has sent there are passed over: that group handles them, and a consumer
// that did as well would send them there again, twice as many each time. If a hook ends
// the goroutine, the lane's next one begins here again.
func (l *lane) sift() {
	if l.sifted || l.i == len(l.run.Records) {
		return
	}
	type stray struct {
		offset int64
		owner  string
	}
	var strays []stray
	unmarked := 0
	for i := range l.run.Records[l.i:] {
		r := &l.run.Records[l.i+i]
		switch _, s, owner := l.env.retries.read(r.Headers); s {
		case fresh:
			unmarked++
		case foreign:
			strays = append(strays, stray{r.Offset, driver.Printable(owner, maxNameBytes)})
		}
	}
	for _, s := range strays {
		l.env.log.Warn("kafka: record of another group passed over",
			"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", s.offset, "owner", s.owner)
		l.env.event(RecordPassedOver{
			JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim), Offset: s.offset, Owner: s.owner,
		})
		l.hands.pass(l, s.offset)
	}
	l.env.unmarked(unmarked)
	l.sifted = true
}

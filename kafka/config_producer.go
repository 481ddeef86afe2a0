package kafka

import (
	"log/slog"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// mostRetries is more than a configuration needs that does not mean "without end":
// a batch at the head of a partition's order must not be tried without end.
const mostRetries = 10000

// resolveProducer returns a copy of cfg that shares nothing with it and has
// every default filled in, the pointers included, and what the driver has to
// know of it. The error joins a FieldError for everything that is wrong.
func resolveProducer(cfg ProducerConfig, id string, log *slog.Logger) (ProducerConfig, driver.ProducerConfig, error) {
	c := cfg
	p := &problems{kind: "producer", name: id}
	p.log = log.With(p.kind, p.name)
	d := driver.ProducerConfig{Logger: p.log}
	p.producerName(&c.Name, id)
	d.Brokers = p.brokers(c.BootstrapServers)
	p.sending(&c)
	p.messageBytes(&c.MaxMessageBytes)
	p.enabled(&c)
	p.clientID(&c.ClientID, c.Name)
	c.TLS, d.TLS = p.tls(c.TLS)
	c.SASL, d.SASL = p.sasl(c.SASL, c.TLS != nil)
	if err := p.report(log); err != nil {
		return ProducerConfig{}, driver.ProducerConfig{}, err
	}
	d.ClientID = c.ClientID
	d.RequiredAcks = c.RequiredAcks
	d.Compression = c.Compression
	d.Idempotent = *c.EnableIdempotent
	d.MaxRetries = max(c.MaxRetries, 0)
	d.RetryBackoff = c.RetryBackoff
	d.DeliveryTimeout = c.DeliveryTimeout
	d.MaxMessageBytes = c.MaxMessageBytes
	return c, d, nil
}

func (p *problems) sending(c *ProducerConfig) {
	acks := oneOf(p, "RequiredAcks", c.RequiredAcks, "WaitForAll, WaitForLocal, NoResponse")
	oneOf(p, "Compression", c.Compression,
		"CompressionNone, CompressionGZIP, CompressionSnappy, CompressionLZ4, CompressionZSTD")
	p.retries(c)
	p.duration("RetryBackoff", &c.RetryBackoff, 100*time.Millisecond)
	p.deliveryTimeout(c)
	p.idempotent(c, acks)
}

// deliveryTimeout checks a bound that is off by default, so that zero stays zero.
func (p *problems) deliveryTimeout(c *ProducerConfig) {
	p.duration("DeliveryTimeout", &c.DeliveryTimeout, 0)
	if c.DeliveryTimeout == 0 {
		return
	}
	if c.MaxRetries == NoRetries {
		p.add("DeliveryTimeout", "%v needs retries, and MaxRetries is NoRetries", c.DeliveryTimeout)
	}
	if c.RetryBackoff > 0 && c.DeliveryTimeout < c.RetryBackoff {
		p.add("DeliveryTimeout", "%v is less than RetryBackoff (%v)", c.DeliveryTimeout, c.RetryBackoff)
	}
}

func (p *problems) retries(c *ProducerConfig) {
	if c.MaxRetries == 0 {
		c.MaxRetries = 3
	}
	if c.MaxRetries < NoRetries || c.MaxRetries > mostRetries {
		p.add("MaxRetries", "%d is neither in 0..%d nor NoRetries (%d)", c.MaxRetries, mostRetries, NoRetries)
	}
}

// idempotent needs all replicas, since a broker that drops a duplicate must
// know that the first copy is there; without retries there is no second copy,
// and a client that numbers its batches could not close the gap that one lost
// batch leaves.
func (p *problems) idempotent(c *ProducerConfig, acksKnown bool) {
	possible := c.RequiredAcks == WaitForAll && c.MaxRetries != NoRetries
	c.EnableIdempotent = defaultBool(c.EnableIdempotent, possible)
	if !*c.EnableIdempotent {
		return
	}
	if acksKnown && c.RequiredAcks != WaitForAll {
		p.add("EnableIdempotent", "true needs WaitForAll, and RequiredAcks is acks=%v", c.RequiredAcks)
	}
	if c.MaxRetries == NoRetries {
		p.add("EnableIdempotent", "true needs retries, and MaxRetries is NoRetries")
	}
}

func (p *problems) enabled(c *ProducerConfig) {
	c.EnableSyncProducer = defaultBool(c.EnableSyncProducer, true)
	c.EnableAsyncProducer = defaultBool(c.EnableAsyncProducer, false)
	if !*c.EnableSyncProducer && !*c.EnableAsyncProducer {
		p.add("EnableSyncProducer", "is false, and EnableAsyncProducer is not true: nothing could be sent")
	}
}

// defaultBool returns a pointer of its own to what b says, or to def.
func defaultBool(b *bool, def bool) *bool {
	if b != nil {
		def = *b
	}
	return &def
}

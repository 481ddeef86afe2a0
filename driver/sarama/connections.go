package sarama

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// maxReasons is how many brokers an error names if none could be reached.
const maxReasons = 8

// newLine returns the dialer of one Sarama client.
func newLine(t *tls.Config, answer time.Duration) *dialer.Dialer {
	return dialer.New(t, answer, int(ibm.MaxResponseSize))
}

// on returns conf for a client whose connections are those of d.
func on(d *dialer.Dialer, conf *ibm.Config, readTimeout time.Duration) *ibm.Config {
	c := *conf
	d.MaxPending = conf.Net.MaxOpenRequests
	d.Tokens = conf.Net.SASL.Enable && conf.Net.SASL.Version == ibm.SASLHandshakeV0
	c.Net.Proxy.Enable = true
	c.Net.Proxy.Dialer = d
	c.Net.ReadTimeout = readTimeout
	backoff := conf.Metadata.Retry.Backoff
	c.Metadata.Retry.BackoffFunc = func(int, int) time.Duration {
		d.Wait(backoff) // nothing could cut Sarama's own sleep short
		return 0
	}
	return &c
}

// reach makes sure that one of brokers answers a request, authentication included. Its
// error has the reason of each broker.
func reach(d *dialer.Dialer, brokers []string, conf *ibm.Config) error {
	var errs []error
	for i, addr := range brokers {
		err := hint(d, ask(ibm.NewBroker(addr), conf), conf)
		if err == nil {
			return nil
		}
		if i < maxReasons || isPermanent(wrap(err)) && len(errs) < 2*maxReasons {
			errs = append(errs, fmt.Errorf("%s: %w", driver.Printable(addr, 0), err))
		}
		if d.IsSevered() {
			break
		}
	}
	if more := len(brokers) - len(errs); more > 0 {
		errs = append(errs, fmt.Errorf("and %d brokers more", more))
	}
	return wrap(errors.Join(errs...))
}

// hint adds to err what may be missing when a broker hangs up without a reason.
func hint(d *dialer.Dialer, err error, conf *ibm.Config) error {
	var want []string
	if d.Plaintext() {
		want = append(want, "TLS")
	}
	if !conf.Net.SASL.Enable {
		want = append(want, "SASL")
	}
	if len(want) == 0 || !dialer.HungUp(err) {
		return err
	}
	return fmt.Errorf("%w: does this port want %s?", err, strings.Join(want, " or "))
}

// ask sends b a request that costs little and creates nothing. A broker that requires
// authentication rejects a connection without it only then.
func ask(b *ibm.Broker, conf *ibm.Config) error {
	_, err := lookUp(b, conf, "__consumer_offsets")
	return err
}

// lookUp asks b for a topic, on a connection of its own. The request does not allow the
// broker to create it.
func lookUp(b *ibm.Broker, conf *ibm.Config, topic string) (*ibm.MetadataResponse, error) {
	if err := b.Open(conf); err != nil {
		return nil, err
	}
	defer b.Close()
	if _, err := b.Connected(); err != nil {
		return nil, err
	}
	return b.GetMetadata(ibm.NewMetadataRequest(conf.Version, []string{topic}))
}

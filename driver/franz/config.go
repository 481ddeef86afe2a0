package franz

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/response"
)

const (
	requestTimeout = 10 * time.Second       // the longest wait for an answer that a broker can give at once
	metadataMinAge = 250 * time.Millisecond // with kgo's 5 s, a lost leader stays lost as long
	metadataMaxAge = time.Minute            // how old metadata may be
	maxRead        = 100 << 20              // bytes of the longest answer
	maxPending     = 64                     // requests that wait for an answer on one connection
)

// A cluster is what a consumer and a producer have in common: which brokers, and how to reach
// them.
type cluster struct {
	brokers  []string
	clientID string
	tls      *tls.Config
	sasl     *driver.SASL
}

// newLine returns the dialer of one client. It waits no longer than answer for each answer
// that does not depend on other members of a group; 0 leaves that to the client.
func newLine(t *tls.Config, answer time.Duration) *dialer.Dialer {
	d := dialer.New(t, answer, maxRead)
	d.MaxPending = maxPending
	return d
}

// versions returns the newest version of each request that the driver's clients send. A
// position is addressed by the topic's name, not by its ID; and a produce request, which
// the driver reads, likewise. No answer is newer than what the connections can check.
func versions() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(0, 12) // Produce
	v.SetMaxKeyVersion(8, 9)  // OffsetCommit
	v.SetMaxKeyVersion(9, 9)  // OffsetFetch
	for key, newest := range response.Newest() {
		if stable, ok := v.LookupMaxKeyVersion(key); ok && stable > newest {
			v.SetMaxKeyVersion(key, newest)
		}
	}
	return v
}

// options returns the options that consumers and producers share, for a client whose
// connections are those of line. It fails if a setting cannot be honoured.
func (c cluster) options(line *dialer.Dialer) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.brokers...),
		kgo.ClientID(c.clientID),
		kgo.MaxVersions(versions()),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return line.DialContext(ctx, network, addr)
		}),
		kgo.RequestTimeoutOverhead(requestTimeout),
		kgo.BrokerMaxReadBytes(maxRead),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.MetadataMaxAge(metadataMaxAge),
		kgo.DisableClientMetrics(), // Close would wait for the last of them
		kgo.AlwaysRetryEOF(),       // without it a connection that is closed at once costs all partitions
	}
	mechanism, err := mechanism(c.sasl)
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, err
}

// networkSafety lists the options that no user may change.
var networkSafety = []any{
	kgo.SeedBrokers, kgo.Dialer, kgo.DialTLSConfig, kgo.DialTLS, kgo.SASL, kgo.WithContext, kgo.MaxVersions,
	kgo.BrokerMaxReadBytes, kgo.AlwaysRetryEOF, kgo.DisableClientMetrics, kgo.OnRebootstrapRequired,
}

// extend appends the user's options to opts. It rejects a change of an option on which safety
// rests, and a configuration that kgo rejects.
func (d Driver) extend(opts []kgo.Opt, safety []any) ([]kgo.Opt, error) {
	if err := kgo.ValidateOpts(opts...); err != nil {
		return nil, invalid(err)
	}
	if len(d.Options) == 0 {
		return opts, nil
	}
	all := append(opts[:len(opts):len(opts)], d.Options...)
	if err := kgo.ValidateOpts(all...); err != nil {
		return nil, invalid(fmt.Errorf("franz.Driver.Options: %w", err))
	}
	before, err := values(opts, safety)
	if err != nil {
		return nil, err
	}
	after, err := values(all, safety)
	if err != nil {
		return nil, fmt.Errorf("franz.Driver.Options: %w", err)
	}
	var errs []error
	for i, option := range safety {
		if !same(before[i], after[i]) {
			errs = append(errs, invalid(fmt.Errorf("franz.Driver.Options: %s must not be changed", name(option))))
		}
	}
	return all, errors.Join(errs...)
}

// values returns the values of options in a client that connects to nothing.
func values(opts []kgo.Opt, options []any) ([][]any, error) {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, invalid(err)
	}
	defer cl.Close()
	all := make([][]any, len(options))
	for i, option := range options {
		all[i] = cl.OptValues(option)
	}
	return all, nil
}

// same compares the values of an option. Functions are the same if their code is.
func same(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := reflect.ValueOf(a[i]), reflect.ValueOf(b[i])
		if x.IsValid() && y.IsValid() && x.Kind() == reflect.Func && y.Kind() == reflect.Func {
			if x.Pointer() != y.Pointer() {
				return false
			}
			continue
		}
		if !reflect.DeepEqual(a[i], b[i]) {
			return false
		}
	}
	return true
}

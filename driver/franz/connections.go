package franz

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// maxReasons is how many brokers an error names if none could be reached.
const maxReasons = 8

// reach makes sure that one of the brokers of the configuration answers a request,
// authentication included. Its error has the reason of each broker.
func reach(ctx context.Context, c cluster, cl *kgo.Client) error {
	brokers := cl.SeedBrokers()
	var errs []error
	for i, b := range brokers {
		err := hint(c, ask(ctx, b))
		if err == nil {
			return nil
		}
		if i < maxReasons || isPermanent(wrap(err)) && len(errs) < 2*maxReasons {
			errs = append(errs, fmt.Errorf("%s: %w", driver.Printable(c.brokers[i], 0), err))
		}
		if ctx.Err() != nil || errors.Is(err, dialer.ErrSevered) {
			break
		}
	}
	if more := len(brokers) - len(errs); more > 0 && len(errs) >= maxReasons {
		errs = append(errs, fmt.Errorf("and %d brokers more", more))
	}
	return wrap(errors.Join(errs...))
}

// ask sends b a request that costs little and creates nothing. A broker that requires
// authentication rejects a connection without it only then.
func ask(ctx context.Context, b *kgo.Broker) error {
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // nil is every topic
	_, err := b.Request(ctx, request)
	return err
}

// hint adds to err what may be missing when a broker hangs up without a reason. It replaces
// what kgo guesses, which knows less of the configuration and hides the error of the dialer.
func hint(c cluster, err error) error {
	if guess, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); ok {
		err = guess.Unwrap()
	}
	var want []string
	if c.tls == nil {
		want = append(want, "TLS")
	}
	if c.sasl == nil {
		want = append(want, "SASL")
	}
	if len(want) == 0 || !dialer.HungUp(err) {
		return err
	}
	return fmt.Errorf("%w: does this port want %s?", err, strings.Join(want, " or "))
}

package franz

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"reflect"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/fetchwire"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/response"
)

const (
	maxWait      = 250 * time.Millisecond // of a fetch: the lag of a resume
	fetchTimeout = 30 * time.Second

	// newPartitionLook is how often the leader of the group looks for new partitions.
	newPartitionLook = 20 * time.Second
)

// heartbeatWait bounds the wait for the answer to a heartbeat. When it has passed, an
// interval after the last heartbeat that was answered, enough of the session must be left
// to find the coordinator again, which may take as long, and to try again.
func heartbeatWait(session, interval time.Duration) time.Duration {
	return max((session-interval)/3, time.Second)
}

// commitWait bounds the wait for the answer to a commit.
func commitWait(session time.Duration) time.Duration {
	return min(max(session/2, time.Second), requestTimeout)
}

// consumerSafety lists the options of a consumer that no user may change.
var consumerSafety = append([]any{
	kgo.ConsumerGroup, kgo.ConsumeTopics, kgo.ConsumeRegex, kgo.ConsumePartitions, kgo.ShareGroup,
	kgo.InstanceID, kgo.GroupProtocol, kgo.ServerSideBalancer, kgo.SessionTimeout, kgo.HeartbeatInterval, kgo.RebalanceTimeout,
	kgo.Balancers, kgo.ShareMaxRecords, kgo.ShareMaxRecordsStrict, kgo.ShareAckCallback,
	kgo.DisableAutoCommit, kgo.AutoCommitMarks, kgo.GreedyAutoCommit, kgo.AutoCommitInterval, kgo.AutoCommitCallback,
	kgo.BlockRebalanceOnPoll, kgo.OnPartitionsAssigned, kgo.OnPartitionsRevoked, kgo.OnPartitionsLost,
	kgo.OnPartitionsCallbackBlocked, kgo.OnOffsetsFetched, kgo.AdjustFetchOffsetsFn,
	kgo.ConsumeExcludeTopics, kgo.Rack, kgo.FetchMaxPartitionBytes,
	kgo.ConsumeStartOffset, kgo.ConsumeResetOffset, kgo.FetchIsolationLevel, kgo.KeepControlRecords,
	kgo.KeepRetryableFetchErrors, kgo.DisableFetchCRCValidation, kgo.MaxDecompressBatchBytes, kgo.WithPools,
	kgo.TransactionalID,
}, networkSafety...)

// balancers are kgo's balance strategies.
var balancers = map[driver.BalanceStrategy]func() kgo.GroupBalancer{
	driver.RoundRobin: kgo.RoundRobinBalancer, driver.Range: kgo.RangeBalancer,
	driver.Sticky: kgo.StickyBalancer, driver.CooperativeSticky: kgo.CooperativeStickyBalancer,
}

// A steady balancer leaves the generation out of what a member says of itself, where the
// balancer makes nothing of it. A static member that starts again says the same then, so
// that the group is not balanced again.
type steady struct{ kgo.GroupBalancer }

// JoinGroupMetadata implements kgo's GroupBalancer.
func (b steady) JoinGroupMetadata(interests []string, owned map[string][]int32, generation int32) []byte {
	if b.ProtocolName() == "range" || b.ProtocolName() == "roundrobin" {
		generation = -1
	}
	return b.GroupBalancer.JoinGroupMetadata(interests, owned, generation)
}

// consumerOptions builds and checks the options of a consumer's member, whose connections
// are those of line.
func (d Driver) consumerOptions(cfg driver.ConsumerConfig, line *dialer.Dialer) ([]kgo.Opt, error) {
	opts, err := clusterOf(cfg).options(line)
	errs := []error{err}
	if p := cfg.GroupProtocol; !d.SupportsGroupProtocol(p) {
		errs = append(errs, invalid(fmt.Errorf("GroupProtocol: %v is not supported", p)))
	}
	var chosen []kgo.GroupBalancer
	for _, strategy := range cfg.BalanceStrategies {
		if balancer := balancers[strategy]; balancer != nil {
			chosen = append(chosen, steady{balancer()})
		} else {
			errs = append(errs, invalid(fmt.Errorf("BalanceStrategies: %d is none of the constants", strategy)))
		}
	}
	if cfg.DrainTimeout >= cfg.RebalanceTimeout {
		errs = append(errs, invalid(fmt.Errorf("DrainTimeout: %v is not less than the rebalance timeout of %v", cfg.DrainTimeout, cfg.RebalanceTimeout)))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	isolation := kgo.ReadUncommitted()
	if cfg.IsolationLevel == driver.ReadCommitted {
		isolation = kgo.ReadCommitted()
	}
	opts = append(opts,
		kgo.ConsumerGroup(cfg.Group), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(cfg.SessionTimeout), kgo.HeartbeatInterval(heartbeatInterval(cfg)), kgo.RebalanceTimeout(cfg.RebalanceTimeout),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), // see positions_newest.go
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),       // see positions_range.go
		kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // they show where holes end
		kgo.FetchMaxWait(maxWait), kgo.FetchMaxPartitionBytes(int32(min(cfg.MaxMessageBytes, math.MaxInt32))),
		kgo.RequestTimeoutOverhead(fetchTimeout),
		kgo.MetadataMaxAge(newPartitionLook),
		kgo.Dialer(doubting(line)),
		kgo.RetryTimeoutFn(retryTimeout(cfg.SessionTimeout)),
	)
	if byEpochs(cfg) {
		opts = append(opts, epochOptions(cfg)...)
	} else {
		opts = append(opts, kgo.Balancers(chosen...))
	}
	if cfg.MaxDecompressedBytes > 0 {
		opts = append(opts, kgo.MaxDecompressBatchBytes(cfg.MaxDecompressedBytes))
	}
	if cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(cfg.InstanceID))
	}
	if cfg.RackID != "" {
		opts = append(opts, kgo.Rack(cfg.RackID))
	}
	all, err := d.extend(opts, consumerSafety)
	if err == nil && len(d.Options) > 0 && bringsDecompressor(all) {
		return nil, invalid(fmt.Errorf("franz.Driver.Options: %s must not be changed", name(kgo.WithDecompressor)))
	}
	return all, err
}

// bringsDecompressor reports whether opts have a decompressor of the user. Kgo bounds its own
// only, also one that the user has made.
func bringsDecompressor(opts []kgo.Opt) bool {
	has, err := values(opts, []any{kgo.WithDecompressor})
	return err != nil || reflect.TypeOf(has[0][0]) != reflect.TypeOf(kgo.DefaultDecompressor())
}

// retryTimeout returns how long kgo tries a request again. It tries a heartbeat for longer
// than the session: the member itself ends its claims when that is over, and says why. (Kgo
// tries one of the ConsumerProtocol again without an end.)
func retryTimeout(session time.Duration) func(key int16) time.Duration {
	return func(key int16) time.Duration {
		if key == response.Heartbeat {
			return 2 * session
		}
		return session
	}
}

// doubting returns a function that dials by line, except right after a broker has not answered
// in time. Kgo looks for the coordinator of a group only when it cannot connect to the one that
// it knows; one that is frozen accepts connections.
func doubting(line *dialer.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if line.Doubts(addr) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errSilent}
		}
		return line.DialContext(ctx, network, addr)
	}
}

// errSilent is temporary. Kgo may be dialing the broker to ask it for the coordinator. After an
// error that is not temporary it looks once more, and then gives the membership up.
var errSilent error = silentError{}

type silentError struct{}

func (silentError) Error() string {
	return "an answer has not come in time: the coordinator may be another broker"
}

// Temporary reports true: kgo asks for it.
func (silentError) Temporary() bool { return true }

func clusterOf(cfg driver.ConsumerConfig) cluster {
	return cluster{brokers: cfg.Brokers, clientID: cfg.ClientID, tls: cfg.TLS, sasl: cfg.SASL}
}

// ValidateConsumer implements [driver.ConsumerValidator].
func (d Driver) ValidateConsumer(cfg driver.ConsumerConfig) error {
	_, err := d.consumerOptions(cfg, newLine(nil, 0))
	return err
}

// OpenConsumer implements [driver.Driver].
func (d Driver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	if err := d.ValidateConsumer(cfg); err != nil {
		return nil, err
	}
	c := d.newConsumer(cfg)
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("franz: open consumer: %w", err)
	}
	return c, nil
}

// newConsumer makes a consumer and those of its parts that need no connection.
func (d Driver) newConsumer(cfg driver.ConsumerConfig) *consumer {
	c := &consumer{
		cfg: cfg, driver: d, cluster: clusterOf(cfg),
		line: newLine(cfg.TLS, commitWait(cfg.SessionTimeout)),
		core: new(core.Calls), claims: newClaims(), outages: map[string]time.Time{},
		closing: make(chan struct{}), finished: make(chan struct{}), closed: make(chan struct{}),
	}
	c.base, c.cut = context.WithCancel(context.Background())
	c.hard, c.abandon = context.WithCancelCause(context.Background())
	c.watching, c.stopWatching = context.WithCancel(c.hard)
	c.membership = newMembership(cfg, c.core, c.closing)
	c.topics = newTopics(cfg.Topics, c.membership, c.core)
	c.topics.restart, c.topics.extend = c.restart, c.extend
	c.line.Report, c.line.Closing = c.core.Report, c.closing
	return c
}

// open makes the client that belongs to no group, reaches the cluster by it, and makes the
// parts of the consumer that need it.
func (c *consumer) open(ctx context.Context) error {
	opts, err := c.cluster.options(c.line)
	if err != nil {
		return err
	}
	c.client, err = open(ctx, c.cluster, c.line, append(opts, kgo.WithContext(c.base),
		kgo.RequestRetries(2), kgo.RetryTimeout(commitWait(c.cfg.SessionTimeout))))
	if err != nil {
		c.cut()
		return err
	}
	c.coordinator = newCoordinator(c.base, c.cfg, c.client)
	c.leaders = newLeaders(c.cfg, c.client)
	c.membership.coordinator, c.topics.coordinator = c.coordinator, c.coordinator
	c.committer = &committer{claims: c.claims, coordinator: c.coordinator, membership: c.membership, topics: c.topics, core: c.core}
	c.positions = &positions{
		cfg: c.cfg, coordinator: c.coordinator, leaders: c.leaders, committer: c.committer,
		topics: c.topics, core: c.core,
		restarts: incarnation.NewRestarts(c.cfg.RebalanceTimeout + c.cfg.SessionTimeout + 2*lookEvery),
	}
	c.endAsker = newEndAsker(c.claims, c.leaders, c.core)
	return nil
}

// newMemberLine returns the dialer of a session's client. It bounds the wait for heartbeats
// and hears their answers, and shows fetches to in.
func (c *consumer) newMemberLine(in *inspector) *dialer.Dialer {
	line := newLine(c.cfg.TLS, heartbeatWait(c.membership.sessionTimeout(), c.membership.interval))
	line.Report, line.Closing = c.core.Report, c.closing
	line.Heard = c.membership.heard
	line.Wrap = func(conn net.Conn) net.Conn { return fetchwire.New(conn, in, fetchwire.LengthFirst) }
	line.Slow = func(key int16) bool { return key == response.Fetch || key == response.ListOffsets }
	return line
}

// memberOptions returns the options of a session's client, which have been checked.
func (c *consumer) memberOptions(line *dialer.Dialer) []kgo.Opt {
	opts, err := c.driver.consumerOptions(c.cfg, line)
	if err != nil {
		panic(err) // OpenConsumer has rejected it
	}
	return opts
}

package sarama

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// A consumer is one member of one group. It has three Sarama clients, so that
// neither a fetch nor a join, which may wait at the broker, holds up what
// should not: Sarama serialises a connection's requests.
type consumer struct {
	cfg  driver.ConsumerConfig
	conf *ibm.Config

	fetches, groups, commits *dialer.Dialer // the connections of data, coord and coordinator.client
	ends                     *dialer.Dialer // see highwater.go
	endsConf                 *ibm.Config
	data, coord              ibm.Client
	split                    *splitClient
	group                    ibm.ConsumerGroup
	coordinator              *coordinator
	leaders                  *leaders
	inspector                *inspector
	troubled                 chan struct{} // a partition cannot be read on

	// hard ends when the context of Close does: no window outlives it.
	hard    context.Context
	abandon context.CancelCauseFunc

	closing  chan struct{} // closed as Close begins
	served   chan struct{} // closed when the group will not be consumed any more
	finished chan struct{} // closed when Run returns, or will never run
	closed   chan struct{} // closed when Close has its answer
	closeErr error         // valid once closed is closed

	revokes sync.WaitGroup // running calls of Handler.Revoke
	drained sync.WaitGroup // the goroutine that reads Sarama's errors

	core       *core
	claims     *claims
	membership *membership
	topics     *topics
	committer  *committer
	positions  *positions

	mu        sync.Mutex // guards what follows
	running   bool       // Run has begun
	isClosing bool       // Close has begun
	deadline  time.Time  // of Close; zero is none
	fatal     error      // why Run cannot go on
	failed    partition  // where that happened, if at one
}

func newConsumer(cfg driver.ConsumerConfig, conf *ibm.Config) *consumer {
	c := &consumer{
		cfg:     cfg,
		conf:    conf,
		fetches: newLine(cfg.TLS, 0),
		groups:  newLine(cfg.TLS, heartbeatWait(cfg.SessionTimeout, cfg.HeartbeatInterval)),
		commits: newLine(cfg.TLS, commitWait(cfg.SessionTimeout)),
		closing: make(chan struct{}), served: make(chan struct{}),
		finished: make(chan struct{}), closed: make(chan struct{}),
		core: new(core), claims: newClaims(),
	}
	c.membership = newMembership(cfg, conf, c.claims, c.core, c.closing)
	c.topics = newTopics(cfg.Topics, c.membership, c.core)
	c.topics.restart = c.restart
	c.ends = newLine(cfg.TLS, requestTimeout)
	c.endsConf = on(c.ends, conf, requestTimeout)
	c.troubled = make(chan struct{}, 1)
	c.inspector = newInspector(cfg.MaxDecompressedBytes, cfg.MaxMessageBytes, c.inTrouble, c.arrived)
	c.fetches.Wrap = func(conn net.Conn) net.Conn { return newExamined(conn, c.inspector) }
	c.groups.Wrap = func(conn net.Conn) net.Conn {
		return &ear{Conn: conn, asked: c.membership.asked, heard: c.membership.heard}
	}
	c.hard, c.abandon = context.WithCancelCause(context.Background())
	for _, l := range []*dialer.Dialer{c.fetches, c.groups, c.commits, c.ends} {
		l.Report, l.Closing = c.core.report, c.closing
	}
	return c
}

// open reaches the cluster and makes the clients, which dial when they need to.
func (c *consumer) open() (err error) {
	commits := on(c.commits, c.conf, commitWait(c.cfg.SessionTimeout))
	commits.Metadata.Retry.Max = 0 // the committer retries
	if err := reach(c.commits, c.cfg.Brokers, commits); err != nil {
		return c.wrap(err)
	}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	group := c.conf.Consumer.Group
	data := on(c.fetches, c.conf, c.conf.Net.ReadTimeout)
	if every := data.Metadata.RefreshFrequency; every == 0 || every > newPartitionLook {
		data.Metadata.RefreshFrequency = newPartitionLook // unless Configure asks for more looks
	}
	data.Consumer.Group.Rebalance.GroupStrategies = observed(group.Rebalance.GroupStrategies, c.onAssignment)
	if c.data, err = ibm.NewClient(c.cfg.Brokers, data); err != nil {
		return c.wrap(err)
	}
	// A join is answered when the slowest member has drained.
	coord := on(c.groups, c.conf, max(c.conf.Net.ReadTimeout, group.Rebalance.Timeout+5*time.Second))
	coord.Metadata.Retry.Max = 0 // see splitClient, which counts the time
	if c.coord, err = ibm.NewClient(c.cfg.Brokers, coord); err != nil {
		return c.wrap(err)
	}
	client, err := ibm.NewClient(c.cfg.Brokers, commits)
	if err != nil {
		return c.wrap(err)
	}
	for _, client := range []ibm.Client{c.coord, client} {
		// So it knows all brokers. Else it would know but the coordinator, and ask
		// that one where the coordinator is. An error here will show elsewhere.
		_ = client.RefreshMetadata(c.cfg.Topics...)
	}
	c.split = &splitClient{Client: c.data, coord: c.coord, c: c}
	c.connect(client)
	c.group, err = ibm.NewConsumerGroupFromClient(c.cfg.Group, c.split)
	return c.wrap(err)
}

// connect gives the parts of the consumer their connections; client is that of the
// coordinator.
func (c *consumer) connect(client ibm.Client) {
	c.coordinator = newCoordinator(c.cfg, c.conf, client, c.commits)
	c.leaders = &leaders{client: c.data, conf: c.conf}
	c.membership.coordinator, c.topics.coordinator = c.coordinator, c.coordinator
	c.committer = &committer{coordinator: c.coordinator, membership: c.membership, topics: c.topics}
	c.positions = &positions{
		cfg: c.cfg, coordinator: c.coordinator, leaders: c.leaders, committer: c.committer,
		membership: c.membership, topics: c.topics, core: c.core, refresh: c.split.RefreshMetadata,
		restarts: incarnation.NewRestarts(c.cfg.RebalanceTimeout + c.cfg.SessionTimeout + 2*lookEvery),
		astray:   map[partition]astray{},
	}
}

// Run implements [driver.Consumer].
func (c *consumer) Run(h driver.Handler) error {
	if ok, err := c.begin(h); !ok {
		return err
	}
	defer close(c.finished)
	c.drained.Go(c.drainErrors)
	var watch sync.WaitGroup
	watch.Go(func() { c.watchdog(look) })
	watch.Go(c.mend)
	watch.Go(func() { c.watchEnds(askEnds, endAge) })
	looking, stop := context.WithCancel(c.hard)
	defer stop()
	watch.Go(func() { c.topics.lookOut(looking, lookEvery) })
	watch.Go(func() { c.membership.guard(looking) })
	watch.Go(func() { c.membership.keepBeating(looking) })
	err := c.serve()
	close(c.served)
	stop()
	c.fetches.Sever() // the watchdog may wait for an answer
	c.ends.Sever()
	watch.Wait()
	c.revokes.Wait()
	c.core.close()
	return err
}

func (c *consumer) begin(h driver.Handler) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosing {
		return false, nil
	}
	if c.running {
		return false, invalid(errors.New("Run: called for the second time"))
	}
	c.core.serve(h)
	c.running = true
	return true, nil
}

// serve joins the group again and again, until Close or an error that a rejoin
// does not cure.
func (c *consumer) serve() error {
	var pace pace
	for {
		began := time.Now()
		err := c.wrap(c.join())
		fatal, closing := c.verdict()
		switch {
		case closing:
			return nil
		case fatal != nil:
			return fatal
		case isPermanent(err) && !c.topics.passes(err), isCode(err, ibm.ErrSASLAuthenticationFailed):
			return err // what is not permanent of these is a token, and is tried again from the start
		case err != nil && !errors.Is(err, errNoTopic):
			c.tell(err)
		}
		if time.Since(began) >= shortSession && err == nil {
			c.topics.settled()
		}
		select {
		case <-time.After(pace.next(err, time.Since(began))):
		case <-c.closing:
			return nil
		}
	}
}

// join is one membership: from before the join until every claim has ended.
func (c *consumer) join() error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	c.membership.join(cancel)
	if fatal, closing := c.verdict(); closing || fatal != nil { // before there was a session to end
		return nil
	}
	topics, err := c.topics.choose(ctx)
	if err != nil {
		return err
	}
	asOf := c.topics.known.Eras()
	if err := c.positions.restartHeld(ctx, asOf, topics); err != nil {
		return err
	}
	if err := c.positions.moveIntoLog(ctx, asOf); err != nil {
		return err
	}
	pins, failed, err := c.positions.pinNewest(ctx, asOf, topics)
	if err != nil {
		return err
	}
	if topics, err = c.topics.without(topics, failed); err != nil {
		return err
	}
	err = c.group.Consume(ctx, topics, &session{c: c, end: cancel, topics: topics, pins: pins, eras: asOf})
	return because(err, context.Cause(ctx))
}

// because returns why a join has failed. Where the driver has ended it, Sarama knows
// only that it was to stop.
func because(err, cause error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, errSessionExpired), errors.Is(cause, errJoinRefused):
		return cause
	case errors.Is(cause, errRecreated), errors.Is(cause, errTopicsChanged):
		return nil
	}
	return err
}

func (c *consumer) verdict() (fatal error, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fatal, c.isClosing
}

// A pace spaces out attempts to join. A rebalance must not wait, so sessions
// that end without an error are spaced only when they keep ending at once.
type pace struct{ quick int }

const (
	shortSession  = time.Second
	freeSessions  = 3
	firstInterval = 100 * time.Millisecond
	lastInterval  = 5 * time.Second
)

func (p *pace) next(err error, lived time.Duration) time.Duration {
	if lived >= shortSession && err == nil {
		p.quick = 0
		return 0
	}
	p.quick++
	n := p.quick
	if err == nil {
		if n -= freeSessions; n <= 0 {
			return 0
		}
	}
	return min(firstInterval<<min(n-1, 10), lastInterval)
}

// onAssignment is called when the group has agreed, before Sarama acts on it. A
// rejoin that brings nothing new to a session shows nowhere else; what is new
// shows in ConsumeClaim, and the first join of a session in Setup.
func (c *consumer) onAssignment(claims map[string][]int32, _ int32) {
	assigned := map[partition]bool{}
	for topic, ids := range claims {
		for _, id := range ids {
			assigned[partition{Topic: topic, ID: id}] = true
		}
	}
	if c.membership.assign(assigned) {
		c.core.handler.Assign(nil)
	}
}

// drainErrors reads Sarama's errors until the group is closed.
func (c *consumer) drainErrors() {
	for err := range c.group.Errors() {
		if fatal, closing := c.verdict(); closing || fatal != nil {
			continue // connections that are being cut complain
		}
		where := partition{ID: -1}
		var at *ibm.ConsumerError
		if errors.As(err, &at) {
			where = partition{Topic: at.Topic, ID: at.Partition}
		}
		if c.undecoded(where, err) {
			continue
		}
		err := c.wrap(err)
		if isCode(err, ibm.ErrOffsetOutOfRange) && c.topics.isAnother(c.hard, where.Topic) {
			continue // the position is not of this topic
		}
		if isCode(err, ibm.ErrTopicAuthorizationFailed) && where.Topic != "" && len(c.cfg.Topics) > 1 {
			c.topics.deny(where.Topic, ibm.ErrTopicAuthorizationFailed, reportEvery)
			c.end(err)
			continue
		}
		if isCode(err, ibm.ErrOffsetOutOfRange) && c.cfg.OutOfRange != driver.OutOfRangeStop {
			c.positions.stray(where, err)
			c.end(err)
			continue
		}
		if isCode(err, ibm.ErrOffsetOutOfRange) {
			err = c.positions.outOfRange(c.hard, where, err)
		}
		if isPermanent(err) {
			c.fail(err, where)
			continue
		}
		c.tell(err)
		if errors.Is(err, ibm.ErrConsumerRetriesExhausted) {
			c.end(err)
		}
	}
}

// restart ends the claims of topics that were created again, and the session with them:
// Sarama cannot begin a single claim again. The claims of other topics are revoked.
func (c *consumer) restart(changed map[string]bool) {
	lost := c.claims.all(func(cl *claim) bool { return changed[cl.where.Topic] })
	at := map[partition]int64{}
	for _, cl := range lost {
		at[cl.where] = cl.position()
	}
	for topic := range changed {
		c.positions.restarts.Begin(topic, at)
	}
	c.positions.forgetAstray(changed)
	for topic := range changed {
		cause := recreated(topic)
		for _, cl := range lost {
			if cl.where.Topic == topic {
				cl.setLost(cause)
			}
		}
		c.end(cause)
	}
}

// fail ends Run with err. Nothing will be fetched any more; Sarama would go on
// for some seconds to look for the leader of a claim that it is to give up.
func (c *consumer) fail(err error, where partition) {
	c.mu.Lock()
	if c.fatal == nil {
		c.fatal, c.failed = err, where
	}
	c.mu.Unlock()
	c.end(err)
	c.fetches.Sever()
}

// end ends the session, if there is one.
func (c *consumer) end(cause error) { c.membership.end(cause) }

// tell passes err to Handler.Error, as long as Run has not returned.
func (c *consumer) tell(err error) { c.core.report(err) }

// Commit implements [driver.Consumer].
func (c *consumer) Commit(ctx context.Context, marks []driver.Mark) error {
	return c.committer.commit(ctx, marks)
}

// Pause implements [driver.Consumer].
func (c *consumer) Pause(claims ...*driver.Claim) {
	for _, dc := range claims {
		if cl := c.claims.own(dc); cl != nil {
			cl.pause()
		}
	}
}

// Resume implements [driver.Consumer].
func (c *consumer) Resume(claims ...*driver.Claim) {
	for _, dc := range claims {
		if cl := c.claims.own(dc); cl != nil {
			cl.resume()
		}
	}
}

var _ driver.SessionDeadliner = (*consumer)(nil)

// SessionDeadline implements [driver.SessionDeadliner].
func (c *consumer) SessionDeadline() time.Time { return c.membership.deadline() }

// arrived is called when bytes of a partition are about to be decoded.
func (c *consumer) arrived(p partition, bytes int) {
	c.claims.arrived(p, bytes, c.cfg.MaxMessageBytes/2)
}

// HighWatermark implements [driver.HighWatermarker].
func (c *consumer) HighWatermark(dc *driver.Claim) int64 {
	if cl := c.claims.own(dc); cl != nil {
		return cl.end()
	}
	return -1
}

func (c *consumer) sever() {
	c.fetches.Sever()
	c.ends.Sever()
	c.groups.Sever()
	c.commits.Sever()
}

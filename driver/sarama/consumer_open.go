package sarama

import (
	"context"
	"net"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/fetchwire"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// newConsumer makes a consumer and those of its parts that need no connection.
func newConsumer(cfg driver.ConsumerConfig, conf *ibm.Config) *consumer {
	c := &consumer{
		cfg:     cfg,
		conf:    conf,
		fetches: newLine(cfg.TLS, 0),
		groups:  newLine(cfg.TLS, heartbeatWait(cfg.SessionTimeout, cfg.HeartbeatInterval)),
		commits: newLine(cfg.TLS, commitWait(cfg.SessionTimeout)),
		ends:    newLine(cfg.TLS, requestTimeout),
		core:    new(core.Calls), claims: newClaims(), judge: newJudge(),
		closing: make(chan struct{}), served: make(chan struct{}),
		finished: make(chan struct{}), closed: make(chan struct{}),
	}
	c.hard, c.abandon = context.WithCancelCause(context.Background())
	c.watching, c.stopWatching = context.WithCancel(c.hard)
	c.membership = newMembership(cfg, conf, c.claims, c.core, c.closing)
	c.topics = newTopics(cfg.Topics, c.membership, c.core)
	c.topics.restart = c.restart
	c.mender = newMender(c.claims, c.core)
	c.endAsker = newEndAsker(c.claims, c.ends, conf)
	c.inspector = newInspector(cfg.MaxDecompressedBytes, cfg.MaxMessageBytes, c.mender.inTrouble, c.arrived)
	c.fetches.Wrap = func(conn net.Conn) net.Conn { return fetchwire.New(conn, c.inspector, fetchwire.HeadFirst) }
	c.groups.Wrap = func(conn net.Conn) net.Conn {
		return &ear{Conn: conn, asked: c.membership.asked, heard: c.membership.heard}
	}
	for _, l := range []*dialer.Dialer{c.fetches, c.groups, c.commits, c.ends} {
		l.Report, l.Closing = c.core.Report, c.closing
	}
	return c
}

// arrived is called when bytes of a partition are about to be decoded.
func (c *consumer) arrived(p partition, bytes int) {
	c.claims.arrived(p, bytes, c.cfg.MaxMessageBytes)
}

// open reaches the cluster and makes the clients, which dial when they need to, and the
// parts of the consumer that need them.
func (c *consumer) open() (err error) {
	commits := on(c.commits, c.conf, commitWait(c.cfg.SessionTimeout))
	commits.Metadata.Retry.Max = 0 // the coordinator retries
	if err := reach(c.commits, c.cfg.Brokers, commits); err != nil {
		return c.wrap(err)
	}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	if c.data, err = ibm.NewClient(c.cfg.Brokers, c.dataConfig()); err != nil {
		return c.wrap(err)
	}
	if c.coord, err = ibm.NewClient(c.cfg.Brokers, c.coordConfig()); err != nil {
		return c.wrap(err)
	}
	client, err := ibm.NewClient(c.cfg.Brokers, commits)
	if err != nil {
		return c.wrap(err)
	}
	for _, client := range []ibm.Client{c.coord, client} {
		// So the client knows all brokers. Otherwise it would know only the coordinator,
		// and ask that one for the address of the coordinator. An error here shows
		// elsewhere.
		_ = client.RefreshMetadata(c.cfg.Topics...)
	}
	c.connect(client)
	c.group, err = ibm.NewConsumerGroupFromClient(c.cfg.Group, c.split)
	return c.wrap(err)
}

// dataConfig configures the client that fetches.
func (c *consumer) dataConfig() *ibm.Config {
	conf := on(c.fetches, c.conf, c.conf.Net.ReadTimeout)
	if every := conf.Metadata.RefreshFrequency; every == 0 || every > newPartitionLook {
		conf.Metadata.RefreshFrequency = newPartitionLook // unless Configure asks for more looks
	}
	conf.Consumer.Group.Rebalance.GroupStrategies = observed(conf.Consumer.Group.Rebalance.GroupStrategies, c.onAssignment)
	return conf
}

// coordConfig configures the client that joins.
func (c *consumer) coordConfig() *ibm.Config {
	// A join is answered when the slowest member has drained.
	conf := on(c.groups, c.conf, max(c.conf.Net.ReadTimeout, c.conf.Consumer.Group.Rebalance.Timeout+5*time.Second))
	conf.Metadata.Retry.Max = 0 // see splitClient, which counts the time
	return conf
}

// connect makes the parts of the consumer that need connections; client is that of the
// coordinator.
func (c *consumer) connect(client ibm.Client) {
	c.split = &splitClient{
		Client: c.data, coord: c.coord, line: c.groups, membership: c.membership, topics: c.topics, core: c.core,
		cfg: c.cfg, version: c.conf.Version, closing: c.closing, fail: c.fail,
	}
	c.coordinator = newCoordinator(c.cfg, c.conf, client, c.commits)
	c.leaders = &leaders{client: c.data, conf: c.conf}
	c.membership.coordinator, c.topics.coordinator = c.coordinator, c.coordinator
	c.endAsker.data = c.data
	c.watchdog = &watchdog{claims: c.claims, leaders: c.leaders, core: c.core, closing: c.closing}
	c.committer = &committer{coordinator: c.coordinator, membership: c.membership, topics: c.topics, core: c.core}
	c.positions = &positions{
		cfg: c.cfg, coordinator: c.coordinator, leaders: c.leaders, ends: c.endAsker, committer: c.committer,
		membership: c.membership, topics: c.topics, core: c.core, refresh: c.split.RefreshMetadata,
		restarts: incarnation.NewRestarts(c.cfg.RebalanceTimeout + c.cfg.SessionTimeout + 2*lookEvery),
		astray:   map[partition]astray{},
	}
}

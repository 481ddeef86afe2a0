// Package kafkacluster starts a real Apache Kafka, of one or three brokers, for
// tests, and lets a test do to it what machines do: kill a broker, freeze it,
// bring it back.
//
// # Overview
//
// A test asks for a cluster and gets one that ends with the test:
//
//	c := kafkacluster.ForTest(t, kafkacluster.Config{})
//	err := c.CreateTopic(t.Context(), "orders", 8, nil)
//	… c.Bootstrap() …
//
// A broker is a plain JVM process, combined broker and controller (KRaft), on
// ports of 127.0.0.1 that were free. All that is needed are java and, the first
// time, mvn, which downloads Kafka (54 MB) into the user's cache directory. One
// broker is ready after about 4 s, three after about 10 s. TestJars puts an archive
// of Java's classes beside the jars, with which they take half of that.
//
// # Switches
//
// The environment decides where a test finds its Kafka:
//
//	KAFKA_BROKERS=host:port   use this running cluster where the test allows it
//	KAFKA_VERSION=3.9.1       start this version where the test asks for none
//	CI=true                   what would be a skip is a failure
//	go test -short            skip, except in CI; nothing is started or downloaded
//
// # Shutdown
//
// [Cluster.Close] kills every process and removes the directory. A test process
// that ends in any other way, by a signal or a panic, leaves nothing behind
// either: on Linux the kernel kills the brokers with it, and everywhere a shell
// that waits for its end removes the directory.
package kafkacluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// The versions of Kafka that tests use: the newest, which is the default, and
// the oldest that is still of interest.
const (
	DefaultVersion = "4.3.1"
	OldestVersion  = "3.9.1"
)

var (
	// ErrUnavailable says that no Kafka can be run on this machine. The text
	// names what is missing.
	ErrUnavailable = errors.New("kafka is not available")

	// ErrExternal answers to kill, pause and the like on a cluster that this
	// package did not start.
	ErrExternal = errors.New("cluster was not started here")

	// ErrClosed answers to whatever is asked of a cluster after Close.
	ErrClosed = errors.New("cluster is closed")
)

// Config says what cluster is wanted. The zero Config is a single broker of
// [DefaultVersion].
type Config struct {
	// Brokers is 1, the default, or 3.
	Brokers int

	// Version is a release of Apache Kafka, [DefaultVersion] if empty. The
	// console tools that [Cluster.Tool] runs come with 4.0 and later only.
	Version string

	// Dir is where the cluster makes a directory of its own, and removes it on
	// Close. The default is [os.TempDir].
	Dir string

	// Properties are added to the server.properties of every broker, and win
	// over those of this package.
	Properties map[string]string

	// Security, if not nil, adds listeners with TLS and SASL and an authorizer.
	Security *Security

	// Advertise, if not nil, replaces an address before the brokers advertise it,
	// so that a proxy can stand between. It is called for the listeners of
	// every broker: PLAINTEXT and those of Security for clients, BROKER for
	// what brokers say to each other and CONTROLLER for what they say to the
	// quorum. The methods of Cluster use a listener of their own, without proxy.
	// When a port turns out to be taken, Start begins again and asks again.
	Advertise func(broker int, listener, addr string) string

	// Private makes ForTest start a cluster even where KAFKA_BROKERS names one:
	// for tests that kill brokers.
	Private bool
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Brokers == 0 {
		cfg.Brokers = 1
	}
	if cfg.Version == "" {
		cfg.Version = DefaultVersion
	}
	if cfg.Brokers != 1 && cfg.Brokers != 3 {
		return cfg, fmt.Errorf("kafkacluster: Brokers: %d is neither 1 nor 3", cfg.Brokers)
	}
	return cfg, cfg.Security.validate()
}

// A Cluster is a running Kafka. Its methods may be called by several goroutines
// at once.
type Cluster struct {
	cfg      Config
	brokers  []*Broker // by id-1; empty for a cluster that runs elsewhere
	external string    // its bootstrap addresses
	dir      string
	java     java
	janitor  *janitor
	ca       *Authority // nil without Security

	mu     sync.Mutex // guards closed and the process of every broker
	closed bool
}

// Start starts a cluster and returns when it is ready in the sense of
// [Cluster.Ready]. The cluster no longer depends on ctx. The error wraps
// [ErrUnavailable] when this machine lacks what it takes.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	java, err := findJava(ctx, cfg.Version)
	if err != nil {
		return nil, err
	}
	// A port that was free a moment ago may be taken now, and the quorum must
	// know all ports beforehand: so the whole cluster begins again.
	for try := 1; ; try++ {
		c, err := boot(ctx, cfg, java)
		if err == nil {
			return c, nil
		}
		if try == 3 || !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

// Connect returns a cluster that runs elsewhere, given its comma-separated
// addresses. It neither starts nor contacts anything, and Ready and CreateTopic
// wait only for brokers that were started here.
func Connect(bootstrap string) *Cluster {
	return &Cluster{external: bootstrap, cfg: Config{Version: DefaultVersion}}
}

func boot(ctx context.Context, cfg Config, java java) (_ *Cluster, err error) {
	c := &Cluster{cfg: cfg, java: java}
	if c.dir, err = os.MkdirTemp(cfg.Dir, "kafkacluster-"); err != nil {
		return nil, fmt.Errorf("kafkacluster: %w", err)
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, fmt.Errorf("kafkacluster: %w", err)
	}
	c.java.tmp = filepath.Join(c.dir, "tmp")
	if err := os.Mkdir(c.java.tmp, 0o755); err != nil {
		return nil, fmt.Errorf("kafkacluster: %w", err)
	}
	if c.janitor, err = hireJanitor(c.dir); err != nil {
		return nil, fmt.Errorf("kafkacluster: %w", err)
	}
	if err := c.configure(); err != nil {
		return nil, fmt.Errorf("kafkacluster: configure: %w", err)
	}
	if err := c.format(ctx); err != nil {
		if strings.Contains(err.Error(), "UnsupportedClassVersionError") {
			err = fmt.Errorf("%w: java is too old: %w", ErrUnavailable, err)
		}
		return nil, fmt.Errorf("kafkacluster: format storage: %w", err)
	}
	for _, b := range c.brokers {
		if err := b.start(); err != nil {
			return nil, err
		}
	}
	if err := c.Ready(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// format prepares the storage of all brokers, side by side.
func (c *Cluster) format(ctx context.Context) error {
	id := newClusterID()
	errs := make([]error, len(c.brokers))
	var wg sync.WaitGroup
	for i, b := range c.brokers {
		wg.Go(func() {
			args := []string{"kafka.tools.StorageTool", "format", "-t", id, "-c", b.file("properties")}
			for user, password := range c.cfg.Security.users() {
				for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
					args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, password))
				}
			}
			_, errs[i] = run(ctx, c.java.command(smallHeap, args...))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Bootstrap returns the comma-separated addresses of the PLAINTEXT listener.
func (c *Cluster) Bootstrap() string { return c.Addr("PLAINTEXT") }

// Addr returns the comma-separated addresses, as advertised, of a listener:
// PLAINTEXT or, with [Config.Security], SSL, SASL_SSL or SASL_PLAINTEXT.
func (c *Cluster) Addr(listener string) string {
	if c.External() {
		return c.external
	}
	var addrs []string
	for _, b := range c.brokers {
		addrs = append(addrs, b.advertised[listener])
	}
	return strings.Join(addrs, ",")
}

// External reports whether the cluster was not started here. Its brokers cannot
// be killed, and topics may exist before the test.
func (c *Cluster) External() bool { return c.external != "" }

// Broker returns the broker whose node.id is id: 1, or 1 to 3. The id is the
// one that metadata responses name. It panics when there is no such broker.
func (c *Cluster) Broker(id int) *Broker {
	if c.External() {
		return &Broker{c: c, id: id}
	}
	return c.brokers[id-1]
}

// Brokers returns all brokers of a cluster that was started here.
func (c *Cluster) Brokers() []*Broker { return slices.Clone(c.brokers) }

// Close kills the brokers, waits for their end and removes all files. Calls
// after the first do nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed || c.External() {
		return nil
	}
	var errs []error
	for _, b := range c.brokers {
		errs = append(errs, b.Kill())
	}
	errs = append(errs, os.RemoveAll(c.dir))
	if c.janitor != nil {
		errs = append(errs, c.janitor.dismiss())
	}
	return errors.Join(errs...)
}

package kafkacluster

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// configure chooses the ports and writes the properties of every broker.
func (c *Cluster) configure() error {
	// CONTROLLER, BROKER and ADMIN are for the quorum, for what brokers say to
	// each other and for the methods of Cluster; clients see the others.
	protocols := map[string]string{
		"CONTROLLER": "PLAINTEXT",
		"BROKER":     "PLAINTEXT",
		"ADMIN":      "PLAINTEXT",
		"PLAINTEXT":  "PLAINTEXT",
	}
	for _, name := range c.cfg.Security.listeners() {
		protocols[name] = name
	}
	listeners := slices.Sorted(maps.Keys(protocols))
	addrs, err := freeAddrs(c.cfg.Brokers * len(listeners))
	if err != nil {
		return err
	}
	for id := 1; id <= c.cfg.Brokers; id++ {
		b := &Broker{c: c, id: id, listen: map[string]string{}, advertised: map[string]string{}}
		for _, name := range listeners {
			addr := addrs[0]
			addrs = addrs[1:]
			b.listen[name], b.advertised[name] = addr, addr
			if c.cfg.Advertise != nil && name != "ADMIN" {
				b.advertised[name] = c.cfg.Advertise(id, name, addr)
			}
		}
		c.brokers = append(c.brokers, b)
	}
	secure, err := c.secure()
	if err != nil {
		return err
	}
	for _, b := range c.brokers {
		props := b.properties(protocols)
		maps.Copy(props, secure)
		maps.Copy(props, c.cfg.Properties)
		if err := os.WriteFile(b.file("properties"), formatProperties(props), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) properties(protocols map[string]string) map[string]string {
	p := b.addresses(protocols)
	maps.Copy(p, everywhere())
	n := strconv.Itoa(len(b.c.brokers))
	maps.Copy(p, map[string]string{
		"default.replication.factor":               n,
		"offsets.topic.num.partitions":             n,
		"offsets.topic.replication.factor":         n,
		"transaction.state.log.num.partitions":     n,
		"transaction.state.log.replication.factor": n,
		"transaction.state.log.min.isr":            "1",
	})
	if !isVersion3(b.c.cfg.Version) {
		p["share.coordinator.state.topic.replication.factor"] = n
		p["share.coordinator.state.topic.min.isr"] = "1"
	}
	if len(b.c.brokers) > 1 {
		maps.Copy(p, several())
	}
	return p
}

// everywhere are settings of every broker: small ones, as several share the
// machine with the test.
func everywhere() map[string]string {
	return map[string]string{
		"auto.create.topics.enable":      "false",
		"unclean.leader.election.enable": "false",

		// Tests do not wait for members that might come.
		"group.initial.rebalance.delay.ms": "0",

		"log.cleaner.dedupe.buffer.size": "8388608",
		"num.network.threads":            "2",
		"num.io.threads":                 "2",
	}
}

// several are settings of brokers that are not alone.
func several() map[string]string {
	return map[string]string{
		"min.insync.replicas":           "2",
		"transaction.state.log.min.isr": "2",

		// A broker that is gone is noticed in 3 s, not in 9 to 30 s.
		"broker.session.timeout.ms":             "3000",
		"broker.heartbeat.interval.ms":          "500",
		"replica.lag.time.max.ms":               "3000",
		"controller.quorum.fetch.timeout.ms":    "2000",
		"controller.quorum.election.timeout.ms": "1000",
	}
}

// addresses says who the broker is, and where it and its peers are.
func (b *Broker) addresses(protocols map[string]string) map[string]string {
	var listen, advertised, protocolMap, voters []string
	for _, name := range slices.Sorted(maps.Keys(protocols)) {
		listen = append(listen, name+"://"+b.listen[name])
		protocolMap = append(protocolMap, name+":"+protocols[name])
		if name != "CONTROLLER" {
			advertised = append(advertised, name+"://"+b.advertised[name])
		}
	}
	for _, peer := range b.c.brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", peer.id, peer.advertised["CONTROLLER"]))
	}
	return map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        strconv.Itoa(b.id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"listeners":                      strings.Join(listen, ","),
		"advertised.listeners":           strings.Join(advertised, ","),
		"listener.security.protocol.map": strings.Join(protocolMap, ","),
		"controller.listener.names":      "CONTROLLER",
		"inter.broker.listener.name":     "BROKER",
		"log.dirs":                       b.file("data"),
	}
}

// formatProperties writes a Java properties file.
func formatProperties(props map[string]string) []byte {
	var b []byte
	for _, key := range slices.Sorted(maps.Keys(props)) {
		value := strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(props[key])
		b = fmt.Appendf(b, "%s=%s\n", key, value)
	}
	return b
}

// newClusterID returns 16 random bytes the way Kafka writes them. The first bit
// is zero, so that no id starts with a minus and is taken for a flag.
func newClusterID() string {
	var id [16]byte
	rand.Read(id[:])
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// freeAddrs returns n addresses of 127.0.0.1 that no process listens on.
//
// The ports lie below those that the system gives to outgoing connections. With
// a port from there, a client that redials a killed broker would in the end be
// given that very port as its own, connect to itself, and keep the broker from
// coming back.
func freeAddrs(n int) ([]string, error) {
	const first, last = 15000, 32000
	var addrs []string
	for range 100 * n {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+mathrand.IntN(last-first)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer l.Close() // kept until all are found, so that all differ
		addrs = append(addrs, addr)
		if len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d free ports from %d to %d", n, first, last)
}

//go:build unix

package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

const brokerCount = 3

// A bench is a cluster whose every connection comes by a proxy, but for those of
// the judge.
type bench struct {
	*kafkacluster.Cluster

	mu      sync.Mutex
	clients map[int]*proxy // by broker: for clients
	peers   map[int][]*proxy
	failed  error
}

func newBench(ctx context.Context, version string, brokers int, properties map[string]string) (*bench, error) {
	b := &bench{clients: map[int]*proxy{}, peers: map[int][]*proxy{}}
	var err error
	b.Cluster, err = kafkacluster.Start(ctx, kafkacluster.Config{Brokers: brokers, Version: version, Properties: properties, Advertise: b.advertise})
	if err == nil {
		err = b.failed
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// advertise puts a proxy before a listener. When the cluster begins again, the
// proxies of its first try are idle until the end.
func (b *bench) advertise(broker int, listener, addr string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	clients := listener == "PLAINTEXT"
	peerOf := brokerOf
	if clients {
		peerOf = consumerOf
	}
	p, err := newProxy(addr, peerOf)
	if err != nil {
		b.failed = fmt.Errorf("proxy: %w", err)
		return addr
	}
	if !clients {
		b.peers[broker] = append(b.peers[broker], p)
		return p.addr()
	}
	if old := b.clients[broker]; old != nil {
		old.close()
	}
	b.clients[broker] = p
	return p.addr()
}

// Close ends the cluster and the proxies.
func (b *bench) Close() error {
	var err error
	if b.Cluster != nil {
		err = b.Cluster.Close()
	}
	for _, p := range b.clients {
		p.close()
	}
	for _, ps := range b.peers {
		for _, p := range ps {
			p.close()
		}
	}
	return err
}

// everybody has the same weather.
func everybody(w weather) func(int) weather { return func(int) weather { return w } }

// clientWeather sets what clients find before a broker.
func (b *bench) clientWeather(broker int, w weather) { b.clients[broker].set(everybody(w)) }

// consumerWeather changes the weather between one consumer and all brokers.
func (b *bench) consumerWeather(consumer int, w weather) {
	for _, p := range b.clients {
		p.set(func(peer int) weather {
			if peer == consumer {
				return w
			}
			return weather{}
		})
	}
}

// isolate cuts a broker off from its peers, in both directions. Clients and the
// judge still reach it.
func (b *bench) isolate(broker int) {
	for id, proxies := range b.peers {
		for _, p := range proxies {
			p.set(func(peer int) weather { return weather{cut: id != peer && (id == broker || peer == broker)} })
		}
	}
}

// heal makes all weather fair.
func (b *bench) heal() {
	for _, p := range b.clients {
		p.set(everybody(weather{}))
	}
	for _, proxies := range b.peers {
		for _, p := range proxies {
			p.set(everybody(weather{}))
		}
	}
}

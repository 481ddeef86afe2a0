//go:build unix

package main

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo returns the address of a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func before(t *testing.T, backend string, peerOf func(string) int) *proxy {
	t.Helper()
	p, err := newProxy(backend, peerOf)
	require.NoError(t, err)
	t.Cleanup(p.close)
	return p
}

func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// answers reports whether what is sent comes back within d.
func answers(c net.Conn, text string, d time.Duration) bool {
	if _, err := c.Write([]byte(text)); err != nil {
		return false
	}
	return hears(c, text, d)
}

func hears(c net.Conn, text string, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got)
	return err == nil && string(got) == text
}

const (
	soon = 50 * time.Millisecond
	ever = 10 * time.Second
)

// A black hole holds bytes back, and they arrive when it heals.
func TestBlackHoleHoldsBack(t *testing.T) {
	for _, d := range []direction{toBroker, toClient} {
		p := before(t, echo(t), nil)
		c := dial(t, p)
		require.True(t, answers(c, "fair", ever), "no answer in fair weather")
		var w weather
		w.black[d] = true
		p.set(everybody(w))
		assert.False(t, answers(c, "black", soon), "direction %d: an answer out of a black hole", d)
		p.set(everybody(weather{}))
		assert.True(t, hears(c, "black", ever), "direction %d: what was held back is gone", d)
	}
}

func TestCutResetsAndRefuses(t *testing.T) {
	p := before(t, echo(t), nil)
	c := dial(t, p)
	require.True(t, answers(c, "fair", ever), "no answer in fair weather")
	p.set(everybody(weather{cut: true}))
	c.SetReadDeadline(time.Now().Add(ever))
	_, err := c.Read(make([]byte, 1))
	assert.Error(t, err, "the connection outlives the cut")
	if c, err := net.Dial("tcp", p.addr()); err == nil {
		assert.False(t, answers(c, "new", ever), "a new connection works")
		c.Close()
	}
	p.set(everybody(weather{}))
	assert.True(t, answers(dial(t, p), "fair", ever), "no answer after it has healed")
}

// Only the connections of one peer are cut.
func TestWeatherKnowsPeers(t *testing.T) {
	p := before(t, echo(t), brokerOf)
	hello := func(id string) string {
		head := make([]byte, 14)
		binary.BigEndian.PutUint16(head[12:], uint16(len(id)))
		return string(head) + id
	}
	one, two := dial(t, p), dial(t, p)
	require.True(t, answers(one, hello("broker-1-fetcher-0"), ever), "no answer in fair weather")
	require.True(t, answers(two, hello("raft-client-2"), ever), "no answer in fair weather")
	p.set(func(peer int) weather { return weather{cut: peer == 1} })
	assert.False(t, answers(one, "again", ever), "the peer that is cut off gets an answer")
	assert.True(t, answers(two, "again", ever), "the other peer gets none")
}

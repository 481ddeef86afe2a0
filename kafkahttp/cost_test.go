package kafkahttp

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

// BenchmarkLiveUpdates is the CPU time that live pages cost a process, in percent of one
// core. 20 consumers of 8 partitions handle 100 records per second; the handler of one of
// them fails a record once per second, so that each version of a page differs from the one
// before. Ten readers follow the overview over TCP, or ten pages of consumers. A round
// compares 20 seconds with readers with 10 before and 10 after that without them. The
// readers run in the same process, and their part is in the figure.
//
//	go test ./kafkahttp -run '^$' -bench LiveUpdates -benchtime 1x -count 5
func BenchmarkLiveUpdates(b *testing.B) {
	for _, bb := range []struct {
		name string
		path func(reader int) string
	}{
		{"overview", func(int) string { return "/live" }},
		{"consumers", func(i int) string { return "/live?" + url.Values{"name": {job(i)}}.Encode() }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			const readers, during = 10, 20 * time.Second
			h := newHandler(busy(b))
			b.Cleanup(h.end)
			address := serve(b, h)
			percent := func(during time.Duration) float64 {
				cpu, began := testkit.CPUTime(b), time.Now()
				time.Sleep(during)
				return 100 * float64(testkit.CPUTime(b)-cpu) / float64(time.Since(began))
			}
			var cost, without, versions, bytes float64
			for range b.N {
				before := percent(during / 2)
				var all follower
				var conns []net.Conn
				for i := range readers {
					conns = append(conns, all.follow(b, address, bb.path(i)))
				}
				time.Sleep(liveEvery) // the first version is not an update
				v, n := all.versions.Load(), all.bytes.Load()
				with := percent(during)
				versions += float64(all.versions.Load()-v) / readers / during.Seconds()
				bytes += float64(all.bytes.Load()-n) / readers / during.Seconds()
				for _, c := range conns {
					_ = c.Close()
				}
				all.ended.Wait()
				time.Sleep(time.Second)
				rest := (before + percent(during/2)) / 2
				cost, without = cost+with-rest, without+rest
			}
			n := float64(b.N)
			b.ReportMetric(cost/n, "%core")
			b.ReportMetric(without/n, "%core-without")
			b.ReportMetric(versions/n, "versions/reader/s")
			b.ReportMetric(bytes/n/1000, "kB/reader/s")
			b.ReportMetric(0, "ns/op")
			assert.Greater(b, versions/n, 0.4, "each version differs")
			assert.Less(b, cost/n, 2.0, "percent of one core")
		})
	}
}

func job(i int) string { return fmt.Sprintf("consumer-of-some-orders-%d", i) }

// busy returns a manager with 20 consumers, each of a topic of 8 partitions, that handle
// 100 records per second together until the benchmark ends.
func busy(b *testing.B) *kafka.Manager {
	const jobs = 20
	broker := memory.NewBroker()
	m := kafka.New(broker, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	b.Cleanup(func() { stop(); running.Wait() })
	var consumers []kafka.Consumer
	for i := range jobs {
		require.NoError(b, broker.CreateTopic(job(i), 8))
		consumers = append(consumers, kafka.NewConsumer(kafka.ConsumerConfig{
			JobName: job(i), Topic: job(i), ConsumerGroup: job(i), BootstrapServers: "in-memory:9092", InitialOffset: kafka.OffsetOldest,
			Backoff: kafka.Backoff{Min: time.Second, Max: time.Second},
		}, func(_ context.Context, m *kafka.Message) error {
			if len(m.Value) == 0 {
				return errHandler
			}
			return nil
		}))
	}
	require.NoError(b, broker.Send(job(0), []byte("the key of a record that fails"), nil, memory.ToPartition(0)))
	running.Go(func() { assert.NoError(b, m.Run(ctx, consumers...)) })
	running.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			assert.NoError(b, broker.Send(job(n%jobs), fmt.Appendf(nil, "customer-%d", n), []byte("100 bytes or so")))
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	for end := time.Now().Add(time.Minute); len(m.Consumers()) < jobs || m.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		require.True(b, time.Now().Before(end), "the consumers have not joined")
	}
	return m
}

func serve(b *testing.B, h http.Handler) (address string) {
	server := httptest.NewServer(h)
	b.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// serveSmall has the smallest socket buffers, so that a reader that stops reading blocks its
// stream at once.
func serveSmall(b *testing.B, h http.Handler) (address string) {
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		assert.NoError(b, c.(*net.TCPConn).SetWriteBuffer(1))
		return ctx
	}
	server.Start()
	b.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// request connects and asks for a stream. It reads nothing.
func request(b *testing.B, address, path string) net.Conn {
	c, err := net.Dial("tcp", address)
	require.NoError(b, err)
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n", path)
	require.NoError(b, err)
	return c
}

// A follower counts what readers get.
type follower struct {
	versions, bytes atomic.Int64
	ended           sync.WaitGroup
}

// follow adds a reader, which ends when its connection is closed.
func (f *follower) follow(b *testing.B, address, path string) net.Conn {
	c := request(b, address, path)
	f.ended.Go(func() {
		r := bufio.NewReader(c)
		for {
			part, err := r.ReadSlice('\n')
			if err != nil && err != bufio.ErrBufferFull {
				return
			}
			f.bytes.Add(int64(len(part)))
			if strings.HasPrefix(string(part), "event: page") {
				f.versions.Add(1)
			}
		}
	})
	return c
}

// BenchmarkStoppedReaders is the memory per reader that a process needs for readers that
// stop reading, until they are dropped: the connection, and the version of the page at which
// each stopped. The buffers of the kernel are not in it. They are as small as they can be,
// so that a reader blocks at once.
func BenchmarkStoppedReaders(b *testing.B) {
	const readers = 100
	s := many(20, 8)
	var each, page float64
	for range b.N {
		h := newTest(b, s)
		h.slow = 8 * time.Second
		address := serveSmall(b, h)
		var all follower
		quick := all.follow(b, address, "/live") // keeps the page alive and shows that versions come
		for end := time.Now().Add(time.Minute); all.versions.Load() == 0; time.Sleep(time.Millisecond) {
			require.True(b, time.Now().Before(end), "no version")
		}
		html, _ := h.fragment("")
		page += float64(len(html))
		before := heap()
		var conns []net.Conn
		for range readers {
			c := request(b, address, "/live")
			require.NoError(b, c.(*net.TCPConn).SetReadBuffer(1))
			conns = append(conns, c)
		}
		for i := range 3 { // versions that no stopped reader gets
			h.event(commitFailed(i))
			time.Sleep(liveEvery)
		}
		each += (heap() - before) / readers
		assert.Equal(b, readers+1, readersOf(h), "they are not dropped yet")
		for end := time.Now().Add(time.Minute); readersOf(h) > 1; time.Sleep(10 * time.Millisecond) {
			require.True(b, time.Now().Before(end), "they are not dropped")
		}
		for _, c := range append(conns, quick) {
			_ = c.Close()
		}
		all.ended.Wait()
	}
	assert.Less(b, each/float64(b.N), 64<<10+page/float64(b.N), "a connection and a version")
	b.ReportMetric(each/float64(b.N)/1000, "kB/stopped-reader")
	b.ReportMetric(page/float64(b.N)/1000, "kB/page")
	b.ReportMetric(0, "ns/op")
}

// readersOf returns how many readers the overview has.
func readersOf(h *handler) int {
	h.live.mu.Lock()
	defer h.live.mu.Unlock()
	if p := h.live.pages[""]; p != nil {
		return p.readers
	}
	return 0
}

// heap returns the bytes of the heap that are in use.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

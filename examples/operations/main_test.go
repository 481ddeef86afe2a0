package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The program prints its address; the page shows a failing record, and an action lets the
// partition go on.
func TestOperations(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", in) }()
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	address = strings.TrimSpace(address)
	assert.Regexp(t, `^http://127\.0\.0\.1:\d+/kafka/$`, address)
	defer http.DefaultClient.CloseIdleConnections()

	type partition struct {
		Topic     string
		Partition int32
		Failing   int64
	}
	failing := func() *partition {
		var s struct{ Partitions []partition }
		require.NoError(t, json.Unmarshal([]byte(get(t, address+"consumers/payments")), &s))
		for _, p := range s.Partitions {
			if p.Failing >= 0 {
				return &p
			}
		}
		return nil
	}
	require.Eventually(t, func() bool { return failing() != nil }, 30*time.Second, 20*time.Millisecond)
	assert.Contains(t, get(t, address), "stands still")
	p := failing()
	body := fmt.Sprintf(`{"consumer":"payments","partition":"%s/%d","offset":%d,"do":"skip","confirm":true}`, p.Topic, p.Partition, p.Failing)
	res, err := http.Post(address+"actions/resolve", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Contains(t, string(answer), "Skipping the record")
	assert.Eventually(t, func() bool { return strings.Contains(get(t, address), "1</b> skipped") }, 30*time.Second, 20*time.Millisecond)

	redrive := func(more string) string {
		res, err := http.Post(address+"actions/redrive", "application/json", strings.NewReader(`{"consumer":"invoices","from":"start","to":"{source}",`+more+`}`))
		require.NoError(t, err)
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(answer)
	}
	assert.Eventually(t, func() bool { return strings.Contains(redrive(`"dryRun":true`), "A run would send 1 dead letter") }, 30*time.Second, 20*time.Millisecond)
	assert.Contains(t, redrive(`"limit":1,"confirm":true`), "1 dead letter of invoices sent again")
	stop()
	require.NoError(t, <-ended)
}

func get(t *testing.T, url string) string {
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(body)
}

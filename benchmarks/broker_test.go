package benchmarks

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// The environment variable that makes the test binary a broker, and the number
// of partitions that its topic has.
const brokerEnv = "BENCHMARK_BROKER_PARTITIONS"

const topic = "bench"

func TestMain(m *testing.M) {
	if n := os.Getenv(brokerEnv); n != "" {
		serve(n)
		return
	}
	os.Exit(m.Run())
}

// serve runs a broker. A fetch finds endless records of 100 bytes in it. It forgets
// produced records. It ends with its standard input.
func serve(partitions string) {
	var n int32
	if _, err := fmt.Sscan(partitions, &n); err != nil {
		panic(err)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(n, topic),
		kfake.BlackholeProduce(), kfake.SyntheticFetch(kfake.SyntheticBatch{}))
	if err != nil {
		panic(err)
	}
	fmt.Println(c.ListenAddrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	c.Close()
}

// startBroker starts a broker process that ends with the benchmark.
func startBroker(b *testing.B, partitions int) (addr string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", brokerEnv, partitions))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		assert.NoError(b, in.Close())
		assert.NoError(b, cmd.Wait())
	})
	addr, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return strings.TrimSpace(addr)
}

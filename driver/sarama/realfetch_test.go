package sarama

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// appendRaw makes a broker append a batch unchanged.
func appendRaw(t *testing.T, cluster *kafkacluster.Cluster, topic string, id int32, b []byte) {
	t.Helper()
	cl, err := cluster.Client(kgo.MaxVersions(kversion.V3_6_0()))
	require.NoError(t, err)
	defer cl.Close()
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = id, b
	of := kmsg.NewProduceRequestTopic()
	of.Topic, of.Partitions = topic, append(of.Partitions, p)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 30000, append(req.Topics, of)
	resp, err := req.RequestWith(within(t, 30*time.Second), cl)
	require.NoError(t, err)
	got := resp.Topics[0].Partitions[0]
	require.Zero(t, got.ErrorCode, "the broker's answer: %v", got.ErrorMessage)
}

// TestFault_B1_RealDamagedLog: one bit is flipped in the log of a real broker.
func TestFault_B1_RealDamagedLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Dir: dir, Private: true})
	require.NoError(t, cluster.CreateTopic(t.Context(), "damaged", 2, nil))
	for p := range int32(2) {
		for i := range 4 {
			seed(t, strings.Split(cluster.Bootstrap(), ","), "damaged", p, numbered(10*i, 10*i+10)...)
		}
	}
	flipInLog(t, dir, "damaged-0", 2)
	cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
	cfg.Topics = []string{"damaged"}
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
	})
	r.mu.Lock()
	wantTrouble(t, r.troubles()[0], "damaged", 20, "CORRUPT_MESSAGE")
	assert.Empty(t, r.revoked)
	assert.Empty(t, r.lost)
	r.mu.Unlock()
	seed(t, cfg.Brokers, "damaged", 1, numbered(40, 50)...)
	r.wait(t, "the rest of the other partition", func() bool { return len(r.offsets(1)) >= 50 })
	flipInLog(t, dir, "damaged-0", 2)
	r.wait(t, "the rest of the partition", func() bool { return len(r.offsets(0)) >= 40 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, wiretest.UpTo(40), r.offsets(0), "offsets of partition 0")
}

// flipInLog flips one bit in the last byte but one of a batch, by its place in the
// log of a partition.
func flipInLog(t *testing.T, dir, partition string, place int) {
	t.Helper()
	logs, err := logsOf(dir, partition)
	require.NoError(t, err)
	require.Len(t, logs, 1, "logs of %s", partition)
	f, err := os.OpenFile(logs[0], os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b, err := os.ReadFile(logs[0])
	require.NoError(t, err)
	at := 0
	for range place + 1 {
		at += recordbatch.LengthBytes + int(binary.BigEndian.Uint32(b[at+8:]))
	}
	_, err = f.WriteAt([]byte{b[at-2] ^ 4}, int64(at-2))
	require.NoError(t, err)
}

// logsOf returns the log files of a partition, of which each replica has one.
func logsOf(dir, partition string) (logs []string, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, filepath.Join(partition, strings.Repeat("0", 20)+".log")) {
			logs = append(logs, path)
		}
		return err
	})
	return logs, err
}

// TestFault_H1_RealBatchesThatInflate: a real broker accepts such batches, also those of
// fault H5.
func TestFault_H1_RealBatchesThatInflate(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Private: true})
	sizes := map[int]int{1: 900 * wiretest.Mebi, 2: 100 * wiretest.Mebi, 3: 100 * wiretest.Mebi, 4: 1024 * wiretest.Mebi}
	for codec, name := range map[int]string{1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"} {
		for kind, bomb := range map[string][]byte{
			"bytes":   wiretest.Compressed(t, int16(codec), wiretest.Large(t, sizes[codec])),
			"headers": wiretest.Compressed(t, int16(codec), wiretest.Headed(t, 3_000_000)),
		} {
			if len(bomb) > 1000_000 {
				continue // snappy and lz4 do not make it small enough for a broker's default
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				topic := fmt.Sprintf("bomb-%s-%s", name, kind)
				realBomb(t, cluster, topic, wiretest.Batch(0, 0, 1, int16(codec), bomb))
			})
		}
	}
}

func realBomb(t *testing.T, cluster *kafkacluster.Cluster, topic string, bomb []byte) {
	t.Helper()
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 2, nil))
	cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
	cfg.Topics, cfg.Group = []string{topic}, topic
	for p := range int32(2) {
		seed(t, cfg.Brokers, topic, p, numbered(0, 10)...)
	}
	appendRaw(t, cluster, topic, 0, bomb)
	for p := range int32(2) {
		seed(t, cfg.Brokers, topic, p, numbered(10, 20)...)
	}
	peak := wiretest.HeapPeak(t)
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(1)) >= 20 && len(r.offsets(0)) >= 10 && len(r.troubles()) > 1
	})
	p := peak()
	t.Logf("a batch of %d bytes; the heap has grown by %d MiB", len(bomb), p/wiretest.Mebi)
	assert.LessOrEqual(t, p, 450*wiretest.Mebi, "growth of the heap")
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, wiretest.UpTo(10), r.offsets(0), "offsets of partition 0")
	assert.Equal(t, wiretest.UpTo(20), r.offsets(1), "offsets of partition 1")
	for _, err := range r.errs {
		assert.Contains(t, []string{"RECORD_TOO_LARGE", "NO_POSITION"}, testkit.Code(err), "code of %v", err)
	}
}

package franz

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
)

// A stuck hook keeps kgo from giving records back.
type stuck struct{ release chan struct{} }

var _ kgo.HookProduceRecordUnbuffered = stuck{}

func (s stuck) OnProduceRecordUnbuffered(*kgo.Record, error) { <-s.release }

// TestCloseAbandonsWhatKgoDoesNotGiveBack: Close returns by the end of its context, although
// kgo gives no message back.
func TestCloseAbandonsWhatKgoDoesNotGiveBack(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	hook := stuck{make(chan struct{})}
	opened, err := Driver{Options: []kgo.Opt{kgo.WithHooks(hook)}}.OpenProducer(within(t, patienceTest), producerConfig(cluster.ListenAddrs()))
	require.NoError(t, err)
	p := opened.(*producer)
	release := sync.OnceFunc(func() { close(hook.release) })
	defer release()
	m := &driver.Message{Topic: "t", Partition: 0, Offset: -7, Value: []byte("v")}
	answers := hand(t, p, m)

	closed := make(chan error, 1)
	go func() { closed <- p.Close(within(t, 100*time.Millisecond)) }()
	select {
	case err := <-closed:
		require.ErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(patienceTest):
		require.Fail(t, "Close waits for kgo")
	}
	require.Len(t, answers.of(0), 1, "acknowledgements")
	assert.ErrorIs(t, answers.of(0)[0], driver.ErrUnknownOutcome)

	release()
	select {
	case <-p.ended:
	case <-time.After(patienceTest):
		require.Fail(t, "the client of kgo does not end")
	}
	assert.Len(t, answers.of(0), 1, "a late answer")
	assert.EqualValues(t, -7, m.Offset, "a late answer")
	assert.ErrorIs(t, p.Close(within(t, patienceTest)), context.DeadlineExceeded, "the second Close")
}

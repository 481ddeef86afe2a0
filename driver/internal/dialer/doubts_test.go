package dialer

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	silentAddr = "silent:9092"
	otherAddr  = "other:9092"
)

// TestDoubtsEndByThemselves: a broker is doubted for a moment from the first question on,
// however late that comes, and no other broker is. It is doubted again when it is silent again.
func TestDoubtsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(nil, time.Second, 100<<20)
		defer d.Sever()
		assert.False(t, d.Doubts(silentAddr), "before it was silent")
		for range 2 {
			d.Doubt(silentAddr)
			time.Sleep(time.Hour)
			assert.False(t, d.Doubts(otherAddr), "another broker")
			assert.True(t, d.Doubts(silentAddr), "the first question")
			time.Sleep(doubtTime)
			assert.True(t, d.Doubts(silentAddr), "within the time")
			time.Sleep(time.Nanosecond)
			assert.False(t, d.Doubts(silentAddr), "after the time")
			assert.False(t, d.Doubts(silentAddr), "after the last doubt")
		}
	})
}

// TestDoubtsBeginAgain: a broker is silent once more while it is doubted.
func TestDoubtsBeginAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(nil, time.Second, 100<<20)
		defer d.Sever()
		d.Doubt(silentAddr)
		assert.True(t, d.Doubts(silentAddr))
		time.Sleep(doubtTime)
		d.Doubt(silentAddr)
		time.Sleep(doubtTime)
		assert.True(t, d.Doubts(silentAddr), "the first question since")
		time.Sleep(doubtTime)
		assert.True(t, d.Doubts(silentAddr), "within the time")
		time.Sleep(time.Nanosecond)
		assert.False(t, d.Doubts(silentAddr), "after the time")
	})
}

// TestTakeSilenceEndsDoubts: its user has acted on the silence.
func TestTakeSilenceEndsDoubts(t *testing.T) {
	d := New(nil, time.Second, 100<<20)
	defer d.Sever()
	assert.False(t, d.TakeSilence())
	d.Doubt(silentAddr)
	assert.True(t, d.TakeSilence())
	assert.False(t, d.TakeSilence())
	assert.False(t, d.Doubts(silentAddr))
}

// TestLateAnswerIsDoubted: the address counts that was dialed. A client that itself ends its
// wait for an answer casts no doubt.
func TestLateAnswerIsDoubted(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  time.Duration // of the client
		doubts bool
	}{
		{"late", patience, true},
		{"given up", -patience, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := New(nil, 200*time.Millisecond, 100<<20)
			defer d.Sever()
			d.MaxPending = 1
			addr := silentPort(t)
			nc, err := d.Dial("tcp", addr)
			require.NoError(t, err)
			defer nc.Close()
			_, err = nc.Write([]byte{0, 0, 0, 8, 0, 3, 0, 0, 0, 0, 0, 1}) // a request for metadata
			require.NoError(t, err)
			require.NoError(t, nc.SetReadDeadline(time.Now().Add(c.limit)))
			_, err = nc.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.False(t, d.Doubts(silentAddr), "another broker")
			assert.Equal(t, c.doubts, d.Doubts(addr))
		})
	}
}

package dialer

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// MaxPause bounds how long a connection keeps quiet because a broker asks for it.
	// A broker that enforces a quota reads nothing meanwhile (KIP-219), whatever the
	// client does.
	MaxPause = 5 * time.Second

	// writeTimeout bounds a write after a pause.
	writeTimeout = 10 * time.Second
)

// A pause is the time until which a connection keeps quiet, because the broker has
// reported in an answer that it throttles this client (KIP-219).
//
// A client may keep the pause in a sleep that nothing ends, and Sarama does so while it
// holds the lock of the broker: an answer with the largest number stalls a connection,
// and the call that closes it, for 24.8 days. So the client reads 0, and its next
// request waits here, where the pause is bounded and can be cut short.
type pause struct{ until atomic.Int64 } // in nanoseconds, as time.Time.UnixNano

// heed notes the throttle time of the answers that have been read.
func (c *conn) heed() {
	asked := c.answers.Throttle()
	if asked == 0 {
		return
	}
	most := c.dialer.atMost(MaxPause)
	if asked > most {
		c.dialer.report(&driver.Error{Code: "THROTTLE_TIME_TOO_LONG", Err: fmt.Errorf(
			"broker at %s asks for a pause of %v between requests; keeping %v", c.raw.RemoteAddr(), asked, most)})
	}
	c.pause.until.Store(time.Now().Add(min(asked, most)).UnixNano())
}

// holdBack waits until the pause is over, the connection is closed, or its user begins
// to close: a request that leaves a group does not wait for a quota.
func (c *conn) holdBack() {
	until := c.pause.until.Load()
	if until == 0 {
		return
	}
	c.pause.until.Store(0)
	t := time.NewTimer(time.Until(time.Unix(0, until)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.gone:
	case <-c.dialer.Closing:
	}
	// The client has set the limit of the write before it waited here. The write
	// returns the error of this, if any.
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
}

package sarama

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// maxPause bounds how long a connection keeps quiet because a broker asks for it. A
// broker that means it reads nothing meanwhile (KIP-219), whatever the client does.
const maxPause = 5 * time.Second

// A pause is the time until which a connection keeps quiet, because the broker has
// said in an answer that it throttles this client (KIP-219).
//
// Sarama would keep it itself, holding the lock of the broker, in a sleep that
// nothing ends: an answer with the largest number stalls a connection for 24.8
// days, and what closes it as well. So Sarama reads 0, and the next request waits
// here, where it can be bounded and cut short.
type pause struct{ until atomic.Int64 } // in nanoseconds, as time.Time.UnixNano

// heed takes the throttle time of the answers that have been read.
func (c *conn) heed() {
	ms := c.answers.layout.pause
	if ms == 0 {
		return
	}
	c.answers.layout.pause = 0
	asked, most := time.Duration(ms)*time.Millisecond, c.line.atMost(maxPause)
	if asked > most {
		c.line.tell(&driver.Error{Code: "THROTTLE_TIME_TOO_LONG", Err: fmt.Errorf(
			"broker at %s asks for a pause of %v between requests; keeping %v", c.raw.RemoteAddr(), asked, most)})
	}
	c.pause.until.Store(time.Now().Add(min(asked, most)).UnixNano())
}

// holdBack waits until the pause is over, the connection is closed, or its user
// closes: what leaves a group and says goodbye does not wait for a quota.
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
	case <-c.line.closing:
	}
	// Sarama has set the limit of the write before it waited here. An error of this
	// is one of the write, too.
	_ = c.SetWriteDeadline(time.Now().Add(requestTimeout))
}

// tell passes err to whoever looks after the line.
func (l *line) tell(err error) {
	if l.report != nil {
		l.report(err)
	}
}

package differential

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
)

// A cluster is the production driver over one.
type cluster struct {
	outside.Client
	name    string
	brokers []string
}

func (c *cluster) String() string        { return c.name }
func (c *cluster) Driver() driver.Driver { return production }
func (c *cluster) Brokers() []string     { return c.brokers }

func (*cluster) settleTime() time.Duration { return 30 * time.Second }

package sarama

import (
	"flag"
	"strconv"
	"testing"

	"github.com/rcrowley/go-metrics"

	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) {
	wiretest.Victim(Driver{})
	testkit.NoLeaksBesideSarama(suite{m})
}

// parallelTests is how many tests run at a time, unless -parallel says otherwise. Most
// of them wait for a timeout, whatever the number of processors.
const parallelTests = 6

// shared is a real Kafka for the tests whose topics and groups are their own.
var shared kafkacluster.Shared

// A suite is what TestMain runs.
type suite struct{ m *testing.M }

func (s suite) Run() int {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		flag.Set("test.parallel", strconv.Itoa(parallelTests))
	}
	metrics.NewMeter().Stop() // starts the goroutine of go-metrics, so no case that counts sees it appear
	defer shared.Close()
	return s.m.Run()
}

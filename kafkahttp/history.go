package kafkahttp

import (
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// A history is the lag of consumers over the last minutes. It is taken by a timer, so that
// the page shows what was before it was opened.
type history struct {
	consumers func() []kafka.ConsumerStatus

	mu    sync.Mutex
	lags  map[string][]int64 // by consumer, the latest last; -1 while it is not known
	timer *time.Timer
	ended bool
}

const (
	historyEvery = 10 * time.Second
	historyKept  = 60
)

func newHistory(consumers func() []kafka.ConsumerStatus) *history {
	return &history{consumers: consumers, lags: make(map[string][]int64)}
}

func (h *history) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.timer = time.AfterFunc(historyEvery, func() {
			h.take()
			h.begin()
		})
	}
}

func (h *history) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	if h.timer != nil {
		h.timer.Stop()
	}
}

// take notes the lags.
func (h *history) take() {
	all := h.consumers()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range all {
		name := all[i].JobName
		lags := append(h.lags[name], totalLag(&all[i]))
		h.lags[name] = lags[max(0, len(lags)-historyKept):]
	}
}

// of returns the lags of a consumer.
func (h *history) of(name string) []int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]int64(nil), h.lags[name]...)
}

// totalLag returns the lag of all partitions of which it is known, or -1 if it is of none.
func totalLag(s *kafka.ConsumerStatus) int64 {
	total := int64(-1)
	for i := range s.Partitions {
		if lag := s.Partitions[i].Lag; lag >= 0 {
			total = max(total, 0) + lag
		}
	}
	return total
}

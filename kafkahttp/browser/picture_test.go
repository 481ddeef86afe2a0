package browser

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkahttp"
)

var newPicture = flag.Bool("picture", false, "write the picture of the page that README.md shows, which takes six minutes")

// picture is what README.md shows.
const picture = "../../docs/page.png"

// README.md shows the overview of a shop: a payment fails, the invoices are held, the
// emails are switched off, and the orders are well. go test -run TestPicture -picture
// makes the picture again; without the flag the kept one is checked, and that the page
// still looks so.
func TestPicture(t *testing.T) {
	const width, height = 1280, 740
	s := start(t, kafkahttp.WithControls())
	s.shop(t)
	if *newPicture {
		s.busy(330 * time.Second) // for half of the lag's graph
	}
	b := open(t)
	light := emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}})
	b.run(chromedp.EmulateViewport(width, height), light, chromedp.Navigate(s.url))
	for _, words := range []string{"1 waiting for an operator", "1 in trouble", "1 off or on standby", "1 well", "the currency XXX does not exist", "Latest events", "Live"} {
		b.await(words)
	}
	var now []byte
	b.run(chromedp.CaptureScreenshot(&now))
	if *newPicture {
		require.NoError(t, os.WriteFile(picture, now, 0o644))
	}
	kept, err := os.ReadFile(picture)
	require.NoError(t, err)
	for name, data := range map[string][]byte{"the page": now, picture: kept} {
		image, err := png.Decode(bytes.NewReader(data))
		require.NoError(t, err, name)
		assert.Equal(t, width, image.Bounds().Dx(), name)
		assert.Equal(t, height, image.Bounds().Dy(), name)
		assert.Less(t, len(data), 200_000, name)
	}
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	assert.True(t, bytes.Contains(readme, []byte("(docs/page.png)")), "README.md does not show it")
	assert.Empty(t, b.complaints)
}

// shop starts four consumers, and brings each into the state that the picture shows.
func (s *service) shop(t *testing.T) {
	for topic, partitions := range map[string]int{"invoices": 3, "emails": 3} {
		s.CreateTopic(topic, partitions)
	}
	consumer := func(name string, handle func(context.Context, *kafka.Message) error) kafka.Consumer {
		c := kafka.ConsumerConfig{JobName: name, Topic: name, ConsumerGroup: "shop-" + name, BootstrapServers: "localhost:9092", Backoff: kafka.Backoff{Min: 10 * time.Minute, Max: 10 * time.Minute}}
		if name == "payments" {
			c.Failure.DeadLetter.Topic = "{topic}.dlq"
		}
		return kafka.NewConsumer(c, handle)
	}
	s.Start(
		consumer("payments", func(_ context.Context, m *kafka.Message) error {
			if strings.HasPrefix(string(m.Value), "XXX") {
				return errors.New("charge customer-7: the currency XXX does not exist")
			}
			return nil
		}),
		consumer("invoices", func(context.Context, *kafka.Message) error {
			return kafka.Hold(errors.New("POST https://tax.example/v2/rates: 503 Service Unavailable"), 10*time.Minute)
		}),
		consumer("emails", func(context.Context, *kafka.Message) error { return nil }),
		consumer("orders", func(context.Context, *kafka.Message) error {
			time.Sleep(4 * time.Millisecond)
			return nil
		}),
	)
	s.Producer()
	for i := range 40 {
		for _, topic := range []string{"payments", "emails", "orders"} {
			s.Send(topic, fmt.Sprint("customer-", i), "10 EUR")
		}
	}
	s.WaitFailed(s.Send("payments", "customer-7", "XXX 10"), 1)
	s.Send("invoices", "customer-7", "10 EUR")
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if status, err := s.Consumer("invoices"); err == nil && status.Held != nil {
			break
		}
		require.True(t, time.Now().Before(end), "the invoices are not held")
	}
	require.NoError(t, s.SetConsumerSwitch("emails", false))
	s.WaitState("emails", kafka.StateOff)
}

// busy sends for a while: bursts that the orders' handler cannot follow, with quiet times.
func (s *service) busy(d time.Duration) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < d; <-tick.C {
		n := 20
		if int(time.Since(began)/(20*time.Second))%2 == 0 {
			n = 70
		}
		for i := range n {
			s.Send("orders", fmt.Sprint("customer-", i), "10 EUR")
		}
		if n == 20 {
			s.Send("payments", "customer-7", "10 EUR")
		}
	}
}

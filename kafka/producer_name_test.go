package kafka

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

func TestProducersAreKnownByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		defer stop(t, m)
		open := func(name string) (*Producer, error) {
			return m.RegisterProducer(t.Context(), ProducerConfig{Name: name, BootstrapServers: "localhost:9092"})
		}
		ids := func() (ids []string) {
			for _, p := range m.Producers() {
				ids = append(ids, p.ID)
			}
			return ids
		}
		assert.Empty(t, m.Producers())
		assert.Empty(t, new(Manager).Producers())
		invoices, err := open("invoices")
		require.NoError(t, err)
		assert.Equal(t, "invoices", invoices.ID())
		_, err = open("Producer-1")
		require.NoError(t, err)
		made, err := open("")
		require.NoError(t, err)
		assert.Equal(t, "producer-2", made.ID(), "the first number is taken")
		assert.Equal(t, []string{"Producer-1", "invoices", "producer-2"}, ids())
		assert.Equal(t, defaultClientID(programPath(), "invoices"), m.Producers()[1].ClientID)

		for _, twice := range []string{"invoices", "INVOICES", "producer-2"} {
			_, err = open(twice)
			assert.ErrorIs(t, err, ErrDuplicate)
			assert.ErrorContains(t, err, `kafka: producer "`+twice+`": name is registered already`)
		}
		_, err = open("a/b")
		assert.EqualError(t, err, `kafka: producer "a/b": Name: "a/b" has a '/'`)

		// A name is free again after Close, and after an opening that failed.
		require.NoError(t, invoices.Close())
		invoices, err = open("Invoices")
		require.NoError(t, err)
		require.NoError(t, invoices.Send(t.Context(), "t", nil, nil))
		d.openProducer = func(context.Context, int) error { return ErrPermanent }
		_, err = open("orders")
		require.ErrorIs(t, err, ErrPermanent)
		d.openProducer = nil
		_, err = open("orders")
		require.NoError(t, err)
	})
}

// Of several that open under one name at once, one gets it, also while it connects.
func TestOneProducerGetsTheName(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	defer stop(t, m)
	var in atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := m.RegisterProducer(t.Context(), ProducerConfig{Name: "orders", BootstrapServers: "localhost:9092"})
			if err == nil {
				in.Add(1)
			} else {
				assert.ErrorIs(t, err, ErrDuplicate)
			}
			assert.LessOrEqual(t, len(m.Producers()), 1)
		})
	}
	all.Wait()
	assert.Equal(t, int32(1), in.Load())
}

func TestDefaultClientID(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct{ path, name, want string }{
		{"/usr/bin/billing", "orders", "billing-orders"},
		{"billing.exe", "producer-1", "billing-producer-1"},
		{"/tmp/my program", "every night/at 2", "my_program-every_night_at_2"},
		{"zähler", "größe\xff\n", "z_hler-gr__e__"},
		{"billing", long, "-" + long[:254]},
		{long, "orders", long[:248] + "-orders"},
	} {
		assert.Equal(t, tt.want, defaultClientID(tt.path, tt.name))
	}
	assert.NotEmpty(t, programPath())
	rapid.Check(t, func(t *rapid.T) {
		id := defaultClientID(rapid.String().Draw(t, "path"), rapid.String().Draw(t, "name"))
		require.NoError(t, validName(id), "%q", id)
		require.Equal(t, id, legal(id))
	})
}

// A validator is a driver whose ValidateProducer may not return.
type validator struct {
	*fakeDriver
	validate func()
}

func (v *validator) ValidateProducer(driver.ProducerConfig) error {
	v.validate()
	return nil
}

// A driver that panics or ends the goroutine while a producer is registered leaves the
// name free, and the shutdown does not wait for it.
func TestNameIsFreeAfterAnOpeningThatPanicked(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("boom") }, "goexit": runtime.Goexit} {
		synctest.Test(t, func(t *testing.T) {
			d := &validator{&fakeDriver{}, end}
			m := New(d)
			cfg := ProducerConfig{Name: "audit", BootstrapServers: "localhost:9092"}
			var opening sync.WaitGroup
			opening.Go(func() {
				defer func() { _ = recover() }()
				_, err := m.RegisterProducer(context.Background(), cfg)
				assert.Fail(t, "returned", "%s: %v", name, err)
			})
			opening.Wait()
			d.validate = func() {}
			_, err := m.RegisterProducer(t.Context(), cfg)
			require.NoError(t, err, name)
			require.NoError(t, m.Shutdown(context.Background()), name)
		})
	}
}

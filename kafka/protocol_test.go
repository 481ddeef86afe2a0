package kafka

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// A modernDriver supports every group protocol.
type modernDriver struct{ fakeDriver }

func (*modernDriver) SupportsGroupProtocol(driver.GroupProtocol) bool { return true }

// A driver that does not declare a group protocol would ignore the field, and its member
// would join a classic group.
func TestGroupProtocolThatTheDriverLacksIsRefused(t *testing.T) {
	cfg := testConfig()
	cfg.GroupProtocol = ConsumerProtocol
	m := New(&fakeDriver{}, quiet())
	err := m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing})
	require.EqualError(t, err, `kafka: consumer "job": GroupProtocol: consumer is not supported by the driver *kafka.fakeDriver`)
	field, _ := errors.AsType[*FieldError](err)
	assert.Equal(t, "GroupProtocol", field.Field)
	assert.Empty(t, m.Consumers())
	require.NoError(t, New(&modernDriver{}, quiet()).RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}))
}

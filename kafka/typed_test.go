package kafka

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type shopOrder struct {
	ID int `json:"id"`
}

func TestJSON(t *testing.T) {
	cases := []struct {
		name  string
		value []byte
		want  shopOrder
		fails bool
	}{
		{name: "a document", value: []byte(`{"id": 7}`), want: shopOrder{7}},
		{name: "white space after it", value: []byte("{\"id\": 7} \n"), want: shopOrder{7}},
		{name: "a second document after it", value: []byte(`{"id": 7}{"id": 8}`), fails: true},
		{name: "rubbish after it", value: []byte(`{"id": 7} x`), fails: true},
		{name: "a document that breaks off", value: []byte(`{"id": 7`), fails: true},
		{name: "another type", value: []byte(`{"id": "7"}`), fails: true},
		{name: "an empty value", value: []byte{}, fails: true},
		{name: "a tombstone", value: nil, fails: true},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			m := &Message{Value: tt.value}
			v, err := JSON[shopOrder](t.Context(), m)
			p, perr := JSON[*shopOrder](t.Context(), m)
			switch {
			case tt.value == nil:
				assert.ErrorIs(t, err, errTombstone)
				assert.NoError(t, perr)
				assert.Nil(t, p)
			case tt.fails:
				assert.Error(t, err)
				assert.Zero(t, v, "no half of a document")
				assert.Error(t, perr)
				assert.Nil(t, p)
			default:
				require.NoError(t, err)
				assert.Equal(t, tt.want, v)
				require.NoError(t, perr)
				assert.Equal(t, &tt.want, p)
			}
		})
	}
}

func TestHandleDecodes(t *testing.T) {
	var got []shopOrder
	c := Handle(testConfig(), JSON[shopOrder], func(_ context.Context, o shopOrder, m *Message) error {
		got = append(got, o)
		assert.Equal(t, int64(5), m.Offset)
		return errHandler
	}).(MessageConsumer)
	assert.Equal(t, "job", c.GetConfig().JobName)
	assert.Equal(t, errHandler, c.HandleMessage(t.Context(), &Message{Offset: 5, Value: []byte(`{"id": 1}`)}), "the handler's own error")
	assert.Equal(t, []shopOrder{{1}}, got)

	err := c.HandleMessage(t.Context(), &Message{Offset: 5, Value: []byte(`{"id": 1`)})
	var decode *DecodeError
	require.ErrorAs(t, err, &decode)
	assert.Equal(t, "decode", decode.ErrorType())
	assert.EqualError(t, err, "decode: unexpected end of JSON input")
	assert.Len(t, got, 1, "the handler does not get what cannot be decoded")
}

// The decoder's own error, and a mark on it, can be reached.
func TestDecodeErrorWrapsTheDecodersError(t *testing.T) {
	away := errors.New("the registry is away")
	c := Handle(testConfig(), func(context.Context, *Message) (int, error) { return 0, away },
		func(context.Context, int, *Message) error { return nil }).(MessageConsumer)
	assert.ErrorIs(t, c.HandleMessage(t.Context(), &Message{}), away)
	assert.EqualError(t, &DecodeError{}, "decode")
}

func TestHandleRefusesNil(t *testing.T) {
	handle := func(context.Context, shopOrder, *Message) error { return nil }
	m := New(&fakeDriver{}, quiet())
	for _, c := range []Consumer{Handle(testConfig(), nil, handle), Handle[shopOrder](testConfig(), JSON, nil)} {
		assert.ErrorContains(t, m.RegisterConsumer(t.Context(), c), "handler is nil")
	}
}

// A decoder that ran out of time says nothing of the record, so its error is a failure like
// any other.
func TestDecoderOutOfTime(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	decode := func(ctx context.Context, m *Message) (int, error) {
		if m.Offset > 0 {
			cancel(ErrHandlerTimeout)
		}
		return 0, errHandler
	}
	var undecodable *DecodeError
	one := Handle(testConfig(), decode, func(context.Context, int, *Message) error { return nil }).(MessageConsumer)
	require.ErrorAs(t, one.HandleMessage(ctx, &Message{}), &undecodable)
	several := HandleBatches(testConfig(), decode, func(context.Context, []Decoded[int]) error { return nil }).(BatchConsumer)
	assert.Equal(t, errHandler, several.HandleBatch(ctx, []*Message{{}, {Offset: 1}, {Offset: 2}}), "of the whole batch")
	assert.Equal(t, errHandler, one.HandleMessage(ctx, &Message{Offset: 1}))
}

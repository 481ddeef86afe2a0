// Package registry has decoders for records whose schema lies in a schema registry, in
// the wire format that Confluent's clients write: a zero byte, the schema's ID, and the
// value. Protobuf values have the index of their message in front.
//
// What the registry answers decides what becomes of a record. A record that names no
// schema, an unknown one or one of another type cannot be decoded, now or later: it
// goes to the dead letters. A registry that does not answer is no record's fault: the
// decoder asks for a Hold, so nothing is handed out until the registry is back.
package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/proto"

	"github.com/aarontianqx/gopkg/kafka"
)

// A Registry looks schemas up and keeps them: a schema never changes under its ID.
type Registry struct {
	client  *sr.Client
	schemas sync.Map // of ID to sr.Schema
}

// New returns a registry at these URLs.
func New(urls ...string) (*Registry, error) {
	client, err := sr.NewClient(sr.URLs(urls...))
	if err != nil {
		return nil, err
	}
	return &Registry{client: client}, nil
}

// schema returns the schema of an ID.
func (r *Registry) schema(ctx context.Context, id int, want sr.SchemaType) (sr.Schema, error) {
	known, ok := r.schemas.Load(id)
	if !ok {
		s, err := r.client.SchemaByID(ctx, id)
		var answer *sr.ResponseError
		switch {
		case errors.As(err, &answer) && answer.ErrorCode == sr.ErrSchemaNotFound.Code:
			return s, fmt.Errorf("schema %d: %w", id, err)
		case err != nil:
			return s, kafka.Hold(fmt.Errorf("schema %d: %w", id, err), 0)
		}
		known, _ = r.schemas.LoadOrStore(id, s)
	}
	s := known.(sr.Schema)
	if s.Type != want {
		return s, fmt.Errorf("schema %d is %v, not %v", id, s.Type, want)
	}
	return s, nil
}

// Protobuf returns a decoder for a generated message type, such as *shop.Order.
func Protobuf[T any, M interface {
	*T
	proto.Message
}](r *Registry) kafka.Decoder[M] {
	var header sr.ConfluentHeader
	return func(ctx context.Context, m *kafka.Message) (M, error) {
		id, rest, err := header.DecodeID(m.Value)
		if err != nil {
			return nil, err
		}
		if _, err := r.schema(ctx, id, sr.TypeProtobuf); err != nil {
			return nil, err
		}
		index, rest, err := header.DecodeIndex(rest, 8)
		if err != nil {
			return nil, err
		}
		var v M = new(T)
		if want := v.ProtoReflect().Descriptor().Index(); len(index) != 1 || index[0] != want {
			return nil, fmt.Errorf("message index is %v, not [%d]", index, want)
		}
		if err := proto.Unmarshal(rest, v); err != nil {
			return nil, err
		}
		return v, nil
	}
}

// Avro returns a decoder for T, whose own schema is reader. Records that were written
// with another version of the schema are resolved to it.
func Avro[T any](r *Registry, reader *avro.Schema) kafka.Decoder[T] {
	var header sr.ConfluentHeader
	var resolved sync.Map // of ID to *avro.Schema
	resolve := func(ctx context.Context, id int) (*avro.Schema, error) {
		if s, ok := resolved.Load(id); ok {
			return s.(*avro.Schema), nil
		}
		written, err := r.schema(ctx, id, sr.TypeAvro)
		if err != nil {
			return nil, err
		}
		writer, err := avro.Parse(written.Schema)
		if err != nil {
			return nil, fmt.Errorf("schema %d: %w", id, err)
		}
		s, err := avro.Resolve(writer, reader)
		if err != nil {
			return nil, fmt.Errorf("schema %d: %w", id, err)
		}
		resolved.Store(id, s)
		return s, nil
	}
	return func(ctx context.Context, m *kafka.Message) (v T, err error) {
		id, rest, err := header.DecodeID(m.Value)
		if err != nil {
			return v, err
		}
		schema, err := resolve(ctx, id)
		if err != nil {
			return v, err
		}
		rest, err = schema.Decode(rest, &v)
		if err == nil && len(rest) > 0 {
			err = fmt.Errorf("%d bytes after the value", len(rest))
		}
		return v, err
	}
}

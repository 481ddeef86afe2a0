package kafka

import "context"

// A Decoded is the value of a record, with the record.
type Decoded[T any] struct {
	Value   T
	Message *Message
}

// HandleBatches is [Handle] for batches: handle gets the values of several records of
// one partition, up to MaxBatchSize, with their records. A record that cannot be decoded
// does not reach handle, and fails by itself with a [*DecodeError]. If none of a batch
// can be decoded, handle is not called.
//
// handle names records that have failed by their Message in a [BatchError]. Any other
// error fails all values that it got. If ctx ends while a record is decoded, the batch
// fails as a whole.
func HandleBatches[T any](cfg ConsumerConfig, decode Decoder[T], handle func(ctx context.Context, vs []Decoded[T]) error) Consumer {
	if decode == nil || handle == nil {
		return NewBatchConsumer(cfg, nil)
	}
	return NewBatchConsumer(cfg, func(ctx context.Context, ms []*Message) error {
		vs := make([]Decoded[T], 0, len(ms))
		var undecodable BatchError
		for _, m := range ms {
			v, err := decodeWith(ctx, decode, m)
			switch {
			case err == nil:
				vs = append(vs, Decoded[T]{v, m})
			case ctx.Err() != nil:
				return err
			default:
				undecodable.Add(m, err)
			}
		}
		var err error
		if len(vs) > 0 {
			err = handle(ctx, vs)
		}
		if len(vs) == len(ms) {
			return err
		}
		if err != nil {
			undecodable.join(err)
		}
		return undecodable.Err()
	})
}

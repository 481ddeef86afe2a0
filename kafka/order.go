package kafka

// An Order says which records of a partition may not overtake which, and so what a slow
// or a failing record holds up.
type Order int

const (
	// OrderByPartition, the default, handles the records of a partition one after the
	// other, as they lie in the log. A failing record holds up its partition.
	OrderByPartition Order = iota

	// OrderByKey handles the records of one key one after the other, as they lie in the
	// log. A failing record holds up its key. Keys are compared byte by byte, within one
	// partition of one topic. A record without a key waits for nothing, and nothing waits
	// for it. Without a key means nil: an empty key is a key.
	OrderByKey

	// OrderNone keeps no order. A failing record holds up nothing.
	OrderNone

	orderCount
)

// String returns the order's name, such as "by key", or "" for any other value.
func (o Order) String() string {
	names := [...]string{"by partition", "by key", "none"}
	if o >= 0 && int(o) < len(names) {
		return names[o]
	}
	return ""
}

package memory

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// The answers to a commit and to a heartbeat of a group of the ConsumerProtocol.
func TestMayCommitInEpoch(t *testing.T) {
	of := func(instance string) *consumer {
		return &consumer{cfg: driver.ConsumerConfig{InstanceID: instance, GroupProtocol: driver.ConsumerProtocol}}
	}
	g := &group{name: "g", generation: 7, state: stable, members: []*member{
		{id: "d", generation: 5, c: of("")}, {id: "s", generation: 6, c: of("one")},
	}}
	for _, tt := range []struct {
		instance, id string
		epoch        int32
		commit, beat string
	}{
		{"", "d", 5, "", ""},
		{"", "d", 4, "STALE_MEMBER_EPOCH", "FENCED_MEMBER_EPOCH"},
		{"", "d", 7, "STALE_MEMBER_EPOCH", "FENCED_MEMBER_EPOCH"},
		{"", "x", 5, "UNKNOWN_MEMBER_ID", "UNKNOWN_MEMBER_ID"},
		{"one", "s", 6, "", ""},
		{"one", "s", 5, "STALE_MEMBER_EPOCH", "FENCED_MEMBER_EPOCH"},
		{"one", "s0", 6, "FENCED_INSTANCE_ID", "FENCED_INSTANCE_ID"},
		{"two", "s", 6, "UNKNOWN_MEMBER_ID", "UNKNOWN_MEMBER_ID"},
	} {
		assert.Equal(t, tt.commit, code(g.mayCommitIn(tt.instance, tt.id, tt.epoch)), "commit of %+v", tt)
		m, err := g.member(tt.instance, tt.id)
		if err == nil {
			err = g.checkEpoch(m, tt.epoch)
		}
		assert.Equal(t, tt.beat, code(err), "heartbeat of %+v", tt)
	}
}

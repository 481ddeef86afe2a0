package memory

import (
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// A claimSet holds the claims of one consumer that have not ended. The broker's mutex
// guards it.
type claimSet struct {
	changed *signal // fired when a claim goes astray
	seeks   *seeker // learns of ended claims
	live    []*claim
	astray  []*claim // whose position is no longer in the log; they deliver nothing
}

// find returns the live claim behind dc, or nil if it has ended or is another consumer's.
func (s *claimSet) find(dc *driver.Claim) *claim {
	if k, ok := dc.Backend.(*claim); ok && k.set == s && !k.ended {
		return k
	}
	return nil
}

// wake makes all claims fetch again.
func (s *claimSet) wake() {
	for _, k := range s.live {
		k.changed.fire()
	}
}

// partitions returns the partitions of the live claims.
func (s *claimSet) partitions() (tps []TopicPartition) {
	for _, k := range s.live {
		tps = append(tps, k.partition())
	}
	return tps
}

// orphans returns the claims whose topic was deleted.
func (s *claimSet) orphans() (ks []*claim) {
	for _, k := range s.live {
		if k.orphaned() {
			ks = append(ks, k)
		}
	}
	return ks
}

// stray notes that k has lost its place. Run sees to it, or ends because of it.
func (s *claimSet) stray(k *claim) {
	s.astray = append(s.astray, k)
	s.changed.fire()
}

// firstAstray returns the claim that lost its place first, or nil.
func (s *claimSet) firstAstray() *claim {
	if len(s.astray) == 0 {
		return nil
	}
	return s.astray[0]
}

// end removes claims: from now on, commits for them are refused.
func (s *claimSet) end(ks []*claim) {
	for _, k := range ks {
		k.ended = true
		s.seeks.ended(k)
	}
	over := func(k *claim) bool { return k.ended }
	s.astray = slices.DeleteFunc(s.astray, over) // or they would be ended a second time
	s.live = slices.DeleteFunc(s.live, over)
}

func claimsOf(ks []*claim) []*driver.Claim {
	cs := make([]*driver.Claim, len(ks))
	for i, k := range ks {
		cs[i] = &k.Claim
	}
	return cs
}

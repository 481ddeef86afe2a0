//go:build unix

package franz

import (
	"testing"

	"github.com/aarontianqx/gopkg/driver"
)

func TestFault_E1_ThawedMemberHandsOutNothingOfItsOldClaim(t *testing.T) {
	for _, p := range []driver.GroupProtocol{driver.ClassicProtocol, driver.ConsumerProtocol} {
		t.Run(p.String(), func(t *testing.T) { common.ThawedMemberHandsOutNothingOfItsOldClaim(t, p) })
	}
}

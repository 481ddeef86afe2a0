//go:build unix

package sarama

import (
	"testing"

	"github.com/aarontianqx/gopkg/driver"
)

func TestFault_E1_ThawedMemberHandsOutNothingOfItsOldClaim(t *testing.T) {
	common.ThawedMemberHandsOutNothingOfItsOldClaim(t, driver.ClassicProtocol)
}

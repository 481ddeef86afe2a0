package sarama

import (
	"strings"
	"testing"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
)

// common has the tests that this driver shares with the other driver of Kafka's protocol.
var common = wiretest.Suite{
	Driver: Driver{}, Fake: fake, Config: consumerConfig, HeartbeatWait: heartbeatWait,
	SessionExpired: errSessionExpired, JoinRefused: errJoinRefused,
}

func TestCommitIsTriedAgain(t *testing.T) { common.CommitIsTriedAgain(t) }

func TestRefusedMetadataIsReportedAtClose(t *testing.T) { common.RefusedMetadataIsReportedAtClose(t) }

func TestOutOfRangeOfAReplicaAloneIsReported(t *testing.T) { common.OutOfRangeOfAReplicaAlone(t) }

func TestOutOfRangeAtAStartingCoordinator(t *testing.T) { common.OutOfRangeAtAStartingCoordinator(t) }

func TestFailedRunLeavesTheGroup(t *testing.T) { common.FailedRunLeavesTheGroup(t) }

func TestFault_A1_AnIdleMemberTakesOver(t *testing.T) { common.IdleMemberTakesOver(t) }

func TestFault_E1_SessionEndsByItsDeadline(t *testing.T) { common.SessionEndsByItsDeadline(t) }

func TestFault_E1_PendingJoinCostsNoSession(t *testing.T) { common.PendingJoinCostsNoSession(t) }

func TestFault_D2_LostMembershipIsReported(t *testing.T) { common.LostMembershipIsReported(t) }

func TestFault_H3_RefusedJoinsArePaced(t *testing.T) { common.RefusedJoinsArePaced(t) }

func TestFrozenCoordinatorKeepsTheSession(t *testing.T) { common.FrozenCoordinatorKeepsTheSession(t) }

func TestNoCoordinatorForAWhile(t *testing.T) { common.NoCoordinatorForAWhile(t) }

func TestNoCoordinatorForASession(t *testing.T) { common.NoCoordinatorForASession(t) }

func TestJoinReportsItsReason(t *testing.T) { common.JoinReportsItsReason(t) }

func TestJoinMayTakeLongerThanAHeartbeat(t *testing.T) { common.JoinMayTakeLongerThanAHeartbeat(t) }

func TestFault_H1_BatchThatInflatesStandsAlone(t *testing.T) { common.BatchThatInflatesStandsAlone(t) }

func TestFault_H5_RecordOfManyHeadersStandsAlone(t *testing.T) {
	common.RecordOfManyHeadersStandsAlone(t)
}

func TestFault_H5_ManyHeavyBatchesAreReadInParts(t *testing.T) {
	common.ManyHeavyBatchesAreReadInParts(t)
}

func TestGroupBesideASilentLeader(t *testing.T) { common.GroupBesideASilentLeader(t) }

func TestGroupWhoseCoordinatorIsAway(t *testing.T) { common.GroupWhoseCoordinatorIsAway(t) }

func TestSeekIsTriedAgain(t *testing.T) { common.SeekIsTriedAgain(t) }

func TestSeekThatIsRefused(t *testing.T) { common.SeekThatIsRefused(t) }

func TestSeekWithALateAnswer(t *testing.T) { common.SeekWithALateAnswer(t) }

func TestSeekWithALostAnswer(t *testing.T) {
	common.SeekWithALostAnswer(t, driver.ClassicProtocol)
}

func TestBrokenOffsets(t *testing.T) { common.BrokenOffsets(t) }

func TestReplayOfAGroupThatIsOff(t *testing.T) {
	common.ReplayOfAGroupThatIsOff(t, fake(t).ListenAddrs())
}

func TestSeekOnOneMemberOfThree(t *testing.T) {
	common.SeekOnOneMemberOfThree(t, fake(t).ListenAddrs())
}

func TestRealReplayOfAGroupThatIsOff(t *testing.T) {
	common.ReplayOfAGroupThatIsOff(t, strings.Split(shared.ForTest(t).Bootstrap(), ","))
}

func TestRealSeekOnOneMemberOfThree(t *testing.T) {
	common.SeekOnOneMemberOfThree(t, strings.Split(shared.ForTest(t).Bootstrap(), ","))
}

package sarama

import (
	"fmt"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

func balanceStrategies(wanted []driver.BalanceStrategy) ([]ibm.BalanceStrategy, error) {
	var strategies []ibm.BalanceStrategy
	for i, s := range wanted {
		switch s {
		case driver.RoundRobin:
			strategies = append(strategies, ibm.NewBalanceStrategyRoundRobin())
		case driver.Range:
			strategies = append(strategies, ibm.NewBalanceStrategyRange())
		case driver.Sticky:
			strategies = append(strategies, ibm.NewBalanceStrategySticky())
		case driver.CooperativeSticky:
			strategies = append(strategies, ibm.NewBalanceStrategyCooperativeSticky())
		default:
			return nil, invalid(fmt.Errorf("BalanceStrategies[%d]: %d is none of the constants", i, s))
		}
	}
	return strategies, nil
}

// An assignmentFunc is called with each assignment as soon as the group has agreed.
type assignmentFunc func(claims map[string][]int32, generation int32)

// observed returns strategies that call assigned with each assignment, and otherwise do what
// they did. It is the only place where Sarama shows a cooperative rebalance before it is
// over.
func observed(strategies []ibm.BalanceStrategy, assigned assignmentFunc) []ibm.BalanceStrategy {
	out := make([]ibm.BalanceStrategy, len(strategies))
	for i, s := range strategies {
		o := observedStrategy{s, assigned}
		if speaker, ok := s.(ibm.SubscriptionUserDataBalanceStrategy); ok {
			out[i] = observedSpeaker{o, speaker}
		} else {
			out[i] = o
		}
	}
	return out
}

type observedStrategy struct {
	ibm.BalanceStrategy
	assigned assignmentFunc
}

// OnAssignment implements Sarama's OnAssignmentBalanceStrategy.
func (o observedStrategy) OnAssignment(a *ibm.ConsumerGroupMemberAssignment, generation int32) {
	if s, ok := o.BalanceStrategy.(ibm.OnAssignmentBalanceStrategy); ok {
		s.OnAssignment(a, generation)
	}
	o.assigned(a.Topics, generation)
}

// SupportedProtocols implements Sarama's RebalanceProtocolBalanceStrategy.
func (o observedStrategy) SupportedProtocols() []ibm.RebalanceProtocol {
	if s, ok := o.BalanceStrategy.(ibm.RebalanceProtocolBalanceStrategy); ok {
		return s.SupportedProtocols()
	}
	return []ibm.RebalanceProtocol{ibm.RebalanceProtocolEager}
}

// An observedSpeaker also adds data to the member's subscription.
type observedSpeaker struct {
	observedStrategy
	speaker ibm.SubscriptionUserDataBalanceStrategy
}

// SubscriptionUserData implements Sarama's SubscriptionUserDataBalanceStrategy.
func (o observedSpeaker) SubscriptionUserData(topics []string) ([]byte, error) {
	return o.speaker.SubscriptionUserData(topics)
}

// cooperative reports whether the group will rebalance cooperatively: only if every strategy
// can.
func cooperative(strategies []ibm.BalanceStrategy) bool {
	for _, s := range strategies {
		if !canCooperate(s) {
			return false
		}
	}
	return len(strategies) > 0
}

func canCooperate(s ibm.BalanceStrategy) bool {
	p, ok := s.(ibm.RebalanceProtocolBalanceStrategy)
	if !ok {
		return false
	}
	for _, protocol := range p.SupportedProtocols() {
		if protocol == ibm.RebalanceProtocolCooperative {
			return true
		}
	}
	return false
}

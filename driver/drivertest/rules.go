package drivertest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// maxProcessingTime is the core's default.
const maxProcessingTime = 100 * time.Millisecond

// The cases whose rules every case checks.
const (
	ruleOwnGoroutine        = "HandlerRunsOnTheDriversGoroutines"
	ruleSilence             = "SilenceAfterRun"
	ruleAssignFirst         = "AssignComesFirst"
	ruleNothingAfterEnd     = "NothingIsDeliveredAfterTheEnd"
	ruleEndsOnce            = "ClaimsEndOnce"
	ruleNoOverlap           = "CallsForAClaimNeverOverlap"
	ruleFixed               = "ClaimsNeverChange"
	ruleNewClaim            = "ReturningPartitionIsANewClaim"
	ruleOneOwner            = "OneOwnerAtATime"
	ruleOneOwnerCooperative = "OneOwnerAtATimeCooperative"
	ruleOrder               = "DeliverInOrder"
	ruleNext                = "NextPassesHoles"
	ruleWindow              = "RevokeHasAWindow"
	ruleNamedErrors         = "ErrorsHaveNames"
	ruleRunEndsClaims       = "RunEndsEveryClaim"
	ruleDeadline            = "LostAtTheSessionDeadline"
	ruleBytes               = "DeliveredBytesAreNeverWritten"
	ruleCloseInTime         = "CloseReturnsInTime"
	ruleCloseAnswer         = "CloseDrains"
	ruleRunNil              = "RunReturnsNilAfterClose"
	rulePerMark             = "CommitAnswersPerMark"
	ruleCommitInTime        = "CommitHonoursItsContext"

	ruleAckOnce             = "AckedOnce"
	ruleAckSilence          = "NoAckAfterClose"
	ruleProduceInTime       = "ProduceBlocksForContext"
	ruleFlush               = "FlushWaits"
	ruleProducerCloseInTime = "ProducerCloseReturnsInTime"
	ruleProducerCloseWaits  = "ProducerCloseWaits"
)

// codeOf returns Kafka's code of an error, or "".
func codeOf(err error) string {
	if de, ok := errors.AsType[*driver.Error](err); ok {
		return de.Code
	}
	return ""
}

// show prints a record. It distinguishes nil from empty and shortens a long value.
func show(r driver.Record) string {
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, fmt.Sprintf("%s=%s", h.Key, showBytes(h.Value)))
	}
	return fmt.Sprintf("{offset %d, %s, key %s, value %s, headers [%s]}",
		r.Offset, r.Timestamp.UTC().Format("15:04:05.000"), showBytes(r.Key), showBytes(r.Value), strings.Join(headers, " "))
}

func showBytes(b []byte) string {
	const most = 40
	switch {
	case b == nil:
		return "nil"
	case len(b) > most:
		return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
	}
	return strconv.Quote(string(b))
}

// brief prints a list, and of a long list only its length and its ends.
func brief(list []string) string {
	const most = 12
	if len(list) <= most {
		return fmt.Sprintf("%d %q", len(list), list)
	}
	return fmt.Sprintf("%d %q … %q", len(list), list[:most/2], list[len(list)-most/2:])
}

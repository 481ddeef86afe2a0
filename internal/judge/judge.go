package judge

import (
	"fmt"
	"sync"
	"time"
)

// A Violation is a broken promise. Invariant is one of a fixed set of names,
// Details is for people.
type Violation struct {
	Invariant string
	Details   string
}

// String returns both.
func (v Violation) String() string { return v.Invariant + ": " + v.Details }

// Rules are what the judged program was configured to do. The zero value of a
// field leaves what it governs unjudged, but for Grace.
type Rules struct {
	Grace time.Duration // what may pass until "at once"

	// AtMostOnce judges members that commit what was handed out: a record counts
	// as done as soon as a handler gets it.
	AtMostOnce bool

	// Lane returns what a record has in common with those that wait for it where order is
	// kept by key, from its Record.Key: "" for a record that waits for none. Without Lane
	// that is the Key.
	Lane func(key string) string

	MaxErrors  int // failed starts in a row after which a member is disabled
	BackoffMin time.Duration
	BackoffMax time.Duration
	Multiplier float64
	Jitter     float64 // a wait may be shorter by so much of itself

	Policy Policy // of records that fail

	// Retry says whether a group's topic is a retry topic, and whether a record that lies in
	// it and has no attempt left has a retry topic to go to. Without Retry there are none.
	Retry func(group, topic string) (is, more bool)
}

// A Judge takes the events of one run. All methods may be called by several
// goroutines at once, and none of them blocks.
type Judge struct {
	rules Rules

	mu         sync.Mutex
	seq        uint64
	now        time.Time
	tail       []told // the latest events
	violations []Violation

	logs    map[Partition]*partitionLog
	known   []Partition // keys of logs, as they came
	places  map[string]place
	hidden  []hidden // handled, and not known to be in the log yet
	groups  map[groupPartition]*groupLog
	queries []query

	claims   map[claimKey]*claim
	late     map[claimKey]*claim // claims that a later one has overtaken, whose end has not been recorded
	running  map[uint64]*handling
	owners   map[groupPartition][]Member
	overlaps []overlap
	meetings []meeting
	streaks  map[claimKey]streak
	severed  map[Member]bool
	expiring map[Member]time.Time // when their groups remove them
	switches map[Member]switching
	owed     []*handling // whose context must have ended by now
	orders   map[Member]Ordered

	attempts map[claimKey]map[int64]*tries
	asked    map[uint64][]AskedRecord
	orphans  map[claimKey][]*openRecord // of claims that were followed by another
	copies   []Copied                   // not compared with their records yet
	holds    map[Member]holding
	probes   int
	resolved map[order]bool

	marks  map[place]Marked   // of records in retry topics
	copied map[place][]Copied // by place: copies that a broker has, or has had before its topic was deleted
	used   map[place]claimed

	seeks []*seekCall // as they came
	moves []*move     // by calls that have not returned

	pauses  map[Member]*pausing
	fetched map[claimKey]uint64 // partitions that are fetched again, and since which event
	rates   map[Member]*bucket

	sends  map[string]*sent
	order  []*sent
	latest map[senderPartition]latestSend

	states map[Member]*life
	lives  []*life // the same, as they came
	stops  map[string]*stop
}

// New returns a judge of a run that is about to begin.
func New(r Rules) *Judge {
	return &Judge{
		rules:    r,
		logs:     make(map[Partition]*partitionLog),
		places:   make(map[string]place),
		groups:   make(map[groupPartition]*groupLog),
		claims:   make(map[claimKey]*claim),
		late:     make(map[claimKey]*claim),
		running:  make(map[uint64]*handling),
		owners:   make(map[groupPartition][]Member),
		severed:  make(map[Member]bool),
		expiring: make(map[Member]time.Time),
		streaks:  make(map[claimKey]streak),
		switches: make(map[Member]switching),
		sends:    make(map[string]*sent),
		latest:   make(map[senderPartition]latestSend),
		states:   make(map[Member]*life),
		stops:    make(map[string]*stop),
		attempts: make(map[claimKey]map[int64]*tries),
		asked:    make(map[uint64][]AskedRecord),
		orphans:  make(map[claimKey][]*openRecord),
		holds:    make(map[Member]holding),
		resolved: make(map[order]bool),
		orders:   make(map[Member]Ordered),
		marks:    make(map[place]Marked),
		copied:   make(map[place][]Copied),
		used:     make(map[place]claimed),
		pauses:   make(map[Member]*pausing),
		fetched:  make(map[claimKey]uint64),
		rates:    make(map[Member]*bucket),
	}
}

// Tell records an event that happens now.
func (j *Judge) Tell(e Event) { j.TellAt(time.Now(), e) }

// TellAt records an event that happened at a time, for a history that is recorded
// afterwards: in the order in which it happened.
func (j *Judge) TellAt(at time.Time, e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	j.now = at
	j.remember(e)
	switch e := e.(type) {
	case Appended, Deleted, Removed, Truncated, Recreated, Damaged, Positioned, CommitApplied:
		j.tellLog(e)
	case Expiring:
		j.expires(e)
	case Assigned, Revoked, Lost, Severed, Reconnected:
		j.tellOwnership(e)
	case HandleStart:
		j.start(e)
	case HandleEnd:
		j.end(e)
	case Seeking, Sought, SeekReturned:
		j.tellSeeking(e)
	case Paused:
		j.paused(e)
	case Resuming:
		j.resuming(e)
	case Fetching:
		j.fetching(e)
	case Rated:
		j.rated(e)
	case Marked:
		j.marks[place{e.Partition, e.Record.Offset}] = e
	case PassedOver:
		j.passedOver(e)
	case Asked, Skipped, Forwarded, Copied, Held, Releasing, Resolving, StoppedBy, Waiting:
		j.tellFailing(e)
	case Status:
		j.checkStatus(e)
	case HandlerFailed:
		j.failed(e)
	case Replaced:
		j.replaced(e)
	case HandlerCancelled:
		j.handlerCancelled(e)
	case Ordered:
		j.orders[e.Member] = e
	case Offered:
		j.offered(e)
	case Send:
		j.send(e)
	case Answer:
		j.answer(e)
	case Opening:
		j.life(e.Member).deafSeq = j.seq
	case Switched:
		j.switched(e)
	case StateChanged:
		j.stateChanged(e)
	case Disabled:
		j.disabled(e)
	case StopCall:
		j.stopCall(e)
	case StopReturn:
		j.stopReturn(e)
	}
}

// tailLength is how many of the latest events a violation shows.
const tailLength = 400

func (j *Judge) remember(e Event) {
	switch e.(type) {
	case Appended, Status, Offered, Fetching:
		return // too many, and seldom what one looks for
	}
	if len(j.tail) == 2*tailLength {
		j.tail = append(j.tail[:0], j.tail[tailLength:]...)
	}
	j.tail = append(j.tail, told{j.now, e})
}

type told struct {
	at    time.Time
	event Event
}

// Tail returns the latest events as text.
func (j *Judge) Tail() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []string
	for _, t := range j.tail[max(0, len(j.tail)-tailLength):] {
		lines = append(lines, fmt.Sprintf("%s %T%+v", t.at.Format("15:04:05.000"), t.event, t.event))
	}
	return lines
}

// violate notes a violation. The caller holds the mutex.
func (j *Judge) violate(invariant, format string, args ...any) {
	j.violations = append(j.violations, Violation{invariant, fmt.Sprintf(format, args...)})
}

// overdue reports whether more than the grace has passed since t.
func (j *Judge) overdue(t time.Time) bool { return j.now.Sub(t) > j.rules.Grace }

// A Subscription is a topic that a group reads.
type Subscription struct{ Group, Topic string }

// Check decides all that can be decided so far, and returns every violation
// that has been found. The log must have been recorded up to now, and nothing be
// under way that would still follow at once.
func (j *Judge) Check() []Violation {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now = time.Now()
	j.check()
	return append([]Violation(nil), j.violations...)
}

func (j *Judge) check() {
	j.answerQueries()
	j.checkHidden()
	j.checkCopies()
	j.checkLate()
	j.checkOverlaps()
	j.checkMeetings()
	j.checkCancelled()
	j.checkStops()
	j.checkSwitches()
	j.checkOrphans()
	j.checkExpired()
	j.checkFetched()
	j.checkMoves()
}

// Settled also decides what must be true when all is healed and at rest: every
// record is done and committed by the groups that read its topic, up to the first
// that cannot be read.
func (j *Judge) Settled(subscriptions ...Subscription) []Violation {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now = time.Now()
	j.check()
	for _, s := range subscriptions {
		j.finalGroup(s)
	}
	return append([]Violation(nil), j.violations...)
}

// Final also decides what must be true when, after that, every process has
// stopped: every send was answered, every callback called, every acknowledged
// message is in the log, and no member owns anything.
func (j *Judge) Final(subscriptions ...Subscription) []Violation {
	j.Settled(subscriptions...)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.finalSends()
	j.finalClaims()
	return append([]Violation(nil), j.violations...)
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Manager owns consumers and producers: their registration, their switches,
// and their shutdown. Two managers share nothing. Make one with [New].
//
// All its methods may be called by several goroutines at once.
type Manager struct {
	driver          driver.Driver
	log             *slog.Logger
	hooks           []Hook
	middleware      []Middleware
	shutdownTimeout time.Duration
	stuckAfter      time.Duration // 0 is the default of each consumer
	subscribers     subscribers

	stages   [stageCount]stage
	begun    stage           // it ends when a shutdown begins
	stopping <-chan struct{} // of begun
	stopped  chan struct{}   // closed when the shutdown has ended
	stopErr  error           // its outcome; read after stopped
	detach   []func()        // of the hooks

	mu           sync.Mutex
	jobs         map[string]*job      // by folded name
	producers    map[string]*Producer // by folded name; nil while it is being opened
	opening      sync.WaitGroup       // producers that are being opened
	openingCount int                  // as many
	asking       sync.WaitGroup       // calls that ask the brokers, such as Lag
	askingCount  int                  // as many
	redrives     []*redrive           // those that run; asking counts them, too
	ids          int                  // the number of the latest producer without a name
	startCtx     context.Context      // for consumers that are registered later; nil before the start
	unwatch      func() bool          // stops watching startCtx
	closed       bool                 // a shutdown has begun: nothing above changes from now on
	gaveUp       *StopError           // of the first Shutdown whose time was up
	ended        bool                 // everything has stopped but the hooks
	atEnds       []func()             // called then; no longer changed
}

// An Option changes a manager that New makes.
type Option struct{ apply func(*Manager) }

// WithLogger sets where the manager logs. The default is slog.Default() at the
// time of New.
func WithLogger(l *slog.Logger) Option {
	return Option{func(m *Manager) {
		if l != nil {
			m.log = l
		}
	}}
}

// WithHook adds hooks, which see events and operations. Nil ones are ignored.
func WithHook(hooks ...Hook) Option {
	return Option{func(m *Manager) {
		for _, h := range hooks {
			if h != nil {
				m.hooks = append(m.hooks, h)
			}
		}
	}}
}

// WithMiddleware wraps the handlers of all consumers that are registered, the
// first one outermost.
func WithMiddleware(mws ...Middleware) Option {
	return Option{func(m *Manager) { m.middleware = append(m.middleware, mws...) }}
}

// WithShutdownTimeout bounds WaitStop, the end of Run, the shutdown that begins by
// itself when the context of StartAllConsumers ends, and Producer.Close. The
// default is 25s, which is below the 30s that Kubernetes gives a pod. A duration
// that is not positive is ignored.
func WithShutdownTimeout(d time.Duration) Option {
	return Option{func(m *Manager) {
		if d > 0 {
			m.shutdownTimeout = d
		}
	}}
}

// New returns a manager whose connections are made by d. It opens nothing.
func New(d driver.Driver, opts ...Option) *Manager {
	m := &Manager{
		driver:          d,
		log:             slog.Default(),
		shutdownTimeout: 25 * time.Second,
		stages:          newStages(),
		begun:           newStage(),
		stopped:         make(chan struct{}),
		jobs:            make(map[string]*job),
		producers:       make(map[string]*Producer),
	}
	m.stopping = m.begun.ctx.Done()
	for _, o := range opts {
		if o.apply != nil {
			o.apply(m)
		}
	}
	m.attachHooks()
	return m
}

// event calls every hook. A panic in one is logged.
func (m *Manager) event(e Event) {
	for _, h := range m.hooks {
		m.tell(h, e)
	}
	for _, s := range m.subscribers.now() {
		m.tell(s, e)
	}
}

func (m *Manager) tell(h Hook, e Event) {
	defer func() {
		if v := recover(); v != nil {
			m.log.Error("kafka: hook panicked", "event", fmt.Sprintf("%T", e), "panic", panicText(v), "stack", string(debug.Stack()))
		}
	}()
	h.Event(e)
}

// ready reports why m cannot be used, if so.
func (m *Manager) ready() error {
	if m == nil || m.jobs == nil {
		return errors.New("kafka: manager was not made by New")
	}
	return nil
}

// RegisterConsumer adds a consumer, which stays off until it is switched on. It
// checks the whole configuration, reports every problem at once, and opens no
// socket; after an error nothing has changed. Consumers may be registered after
// StartAllConsumers, too.
//
// The error wraps ErrDuplicate, ErrClosed or a *FieldError for each problem.
func (m *Manager) RegisterConsumer(ctx context.Context, c Consumer) error {
	if err := m.ready(); err != nil {
		return err
	}
	if ctx == nil {
		return errors.New("kafka: register consumer: ctx is nil")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	j, err := m.prepareJob(c)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if errs := m.refusals(j); errs != nil {
		return errs[0]
	}
	m.addJobs(j)
	return nil
}

// prepareJob checks a consumer and makes its job, which the manager does not know
// yet.
func (m *Manager) prepareJob(c Consumer) (*job, error) {
	if isNil(c) {
		return nil, errors.New("kafka: register consumer: handler is nil")
	}
	_, batch := c.(BatchConsumer)
	cfg, dcfg, err := resolveConsumer(c.GetConfig(), m.log, batch)
	if err == nil && m.driver != nil {
		err = checkConsumer(m.driver, cfg.JobName, dcfg)
	}
	if err == nil && m.driver != nil {
		err = checkLetters(m.driver, &cfg)
	}
	if err != nil {
		return nil, err
	}
	return newJob(m, cfg, dcfg, newHandler(c, m.middleware)), nil
}

// refusals returns why jobs cannot be registered together, if so. The caller holds
// the mutex.
func (m *Manager) refusals(jobs ...*job) (errs []error) {
	seen := make(map[string]bool, len(jobs))
	for _, j := range jobs {
		switch key := foldName(j.name()); {
		case m.closed:
			errs = append(errs, fmt.Errorf("kafka: consumer %q: %w", j.name(), ErrClosed))
		case m.jobs[key] != nil || seen[key]:
			errs = append(errs, fmt.Errorf("kafka: consumer %q: %w", j.name(), ErrDuplicate))
		default:
			seen[key] = true
		}
	}
	return errs
}

// addJobs registers jobs, and runs them if the manager has been started. The caller
// holds the mutex.
func (m *Manager) addJobs(jobs ...*job) {
	for _, j := range jobs {
		m.jobs[foldName(j.name())] = j
		if m.startCtx != nil {
			go j.run(m.startCtx)
		}
	}
}

// foldName returns a form of a name in which those are equal that differ in case
// alone.
func foldName(name string) string { return strings.ToLower(name) }

// isNil reports whether c is nil, holds a nil pointer, or has no function.
func isNil(c Consumer) bool {
	if c == nil {
		return true
	}
	switch f := c.(type) {
	case *funcConsumer:
		return f == nil || f.handle == nil
	case *funcBatchConsumer:
		return f == nil || f.handle == nil
	}
	v := reflect.ValueOf(c)
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Slice:
		return v.IsNil()
	}
	return false
}

// job returns the consumer of that name.
func (m *Manager) job(name string) (*job, error) {
	if err := m.ready(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if j := m.jobs[foldName(name)]; j != nil {
		return j, nil
	}
	return nil, fmt.Errorf("kafka: consumer %s: %w", quote(name), ErrUnknownConsumer)
}

// allJobs returns the consumers in order of name.
func (m *Manager) allJobs() []*job {
	m.mu.Lock()
	defer m.mu.Unlock()
	jobs := make([]*job, 0, len(m.jobs))
	for _, j := range m.jobs {
		jobs = append(jobs, j)
	}
	sort.Slice(jobs, func(a, b int) bool { return jobs[a].name() < jobs[b].name() })
	return jobs
}

// SetConsumerSwitch turns a consumer on or off. It returns at once, and acts at
// once, in every state: off ends every wait, hands out no further record, cancels
// the context of running handlers with ErrSwitchedOff, and leaves the group when
// they have returned; on brings back a disabled consumer too, and ends a backoff.
// No change is missed: off and on again leaves the group and joins it again.
//
// After off, one record per partition may still reach its handler: the one that was
// on its way.
//
// A consumer that is on consumes once StartAllConsumers has been called. After
// a shutdown, on is refused with ErrClosed.
func (m *Manager) SetConsumerSwitch(jobName string, on bool) error {
	j, err := m.job(jobName)
	if err != nil {
		return err
	}
	if on && isClosed(m.stopping) {
		return fmt.Errorf("kafka: switch on consumer %q: %w", j.name(), ErrClosed)
	}
	j.setSwitch(on)
	return nil
}

// GetConsumerSwitch reports whether a consumer's switch is on: what is desired, not
// whether it runs, which Consumer returns. It is false for an unknown name.
func (m *Manager) GetConsumerSwitch(jobName string) bool {
	j, err := m.job(jobName)
	if err != nil {
		return false
	}
	w, _ := j.want()
	return w.on
}

// StartAllConsumers starts every consumer whose switch is on, now or later,
// registered now or later. It returns at once. The handlers' contexts carry
// ctx's values; when ctx ends, the manager shuts down as WaitStop describes. A
// second call starts nothing twice and leaves the first ctx in force.
func (m *Manager) StartAllConsumers(ctx context.Context) error {
	if err := m.ready(); err != nil {
		return err
	}
	if ctx == nil {
		return errors.New("kafka: start consumers: ctx is nil")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.start(ctx)
}

// start starts all consumers, once. The caller holds the mutex.
func (m *Manager) start(ctx context.Context) error {
	switch {
	case m.closed:
		return fmt.Errorf("kafka: start consumers: %w", ErrClosed)
	case m.driver == nil:
		return fmt.Errorf("kafka: start consumers: %w", ErrNoDriver)
	case m.startCtx != nil:
		return nil
	}
	m.startCtx = ctx
	m.unwatch = context.AfterFunc(ctx, m.stopByContext)
	for _, j := range m.jobs {
		go j.run(ctx)
	}
	return nil
}

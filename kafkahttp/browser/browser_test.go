package browser

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkahttp"
	"github.com/aarontianqx/gopkg/kafkatest"
)

var screenshots = flag.String("screenshots", "", "the directory for screenshots; empty writes none")

// unavailable ends a test that needs what is not there.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// A tab is a page in Chromium, with what it complains of.
type tab struct {
	ctx context.Context
	t   *testing.T

	mu         sync.Mutex
	complaints []string
}

// open starts a Chromium that reaches this machine only.
func open(t *testing.T) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		unavailable(t, "no Chromium: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(2*time.Minute),
	)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	ctx, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(func() { cancelTab(); cancelAllocator(); cancel() })
	b := &tab{ctx: ctx, t: t}
	chromedp.ListenTarget(ctx, func(e any) {
		switch e := e.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError {
				b.complain(e.Entry.Text + " " + e.Entry.URL)
			}
		case *runtime.EventExceptionThrown:
			b.complain(e.ExceptionDetails.Error())
		}
	})
	require.NoError(t, chromedp.Run(ctx, log.Enable())) // the browser lives as long as this context
	return b
}

func (b *tab) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	require.NoError(b.t, chromedp.Run(ctx, actions...))
}

// value evaluates an expression.
func value[T any](b *tab, expression string) (v T) {
	b.t.Helper()
	b.run(chromedp.Evaluate(expression, &v))
	return v
}

// text returns what the page says.
func (b *tab) text() string { return value[string](b, "document.body.innerText") }

// await waits until the page says something. It survives that the page is left meanwhile.
func (b *tab) await(words string) {
	b.t.Helper()
	said := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		var now string
		if chromedp.Run(ctx, chromedp.Evaluate("document.readyState === 'complete' ? document.body.innerText : ''", &now)) == nil {
			said = now
		}
		cancel()
		if strings.Contains(said, words) {
			return
		}
	}
	require.Contains(b.t, said, words)
}

// click clicks on what has exactly that text.
func (b *tab) click(what, text string) {
	b.t.Helper()
	b.run(chromedp.Click(fmt.Sprintf(`//%s[normalize-space()=%q]`, what, text), chromedp.BySearch, chromedp.NodeVisible))
}

var errHostile = errors.New(`no <script>document.title="hacked"</script><img src=x onerror='document.title="hacked"'> & "quotes"`)

// A service is a manager with a page: orders is well, payments fails what is sent as bad
// and holds at an outage.
type service struct {
	*kafkatest.Kafka
	url    string
	outage atomic.Bool
	mended atomic.Bool // what is bad is handled
}

func start(t *testing.T, opts ...kafkahttp.Option) *service {
	s := &service{Kafka: kafkatest.New(t)}
	s.Timeout = time.Minute
	s.CreateTopic("orders", 2)
	s.CreateTopic("payments", 1)
	s.CreateTopic("payments.dlq", 1)
	mux := http.NewServeMux()
	mux.Handle("/ops/kafka/", http.StripPrefix("/ops/kafka", kafkahttp.New(s.Manager, opts...)))
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.url = server.URL + "/ops/kafka/"
	return s
}

func (s *service) consume() {
	handle := func(_ context.Context, m *kafka.Message) error {
		switch {
		case string(m.Value) == "bad" && !s.mended.Load():
			return errHostile
		case string(m.Value) == "outage" && s.outage.Load():
			return kafka.Hold(errors.New("the bank does not answer"), time.Hour)
		}
		return nil
	}
	config := func(name string) kafka.ConsumerConfig {
		c := kafka.ConsumerConfig{JobName: name, Topic: name, ConsumerGroup: "shop-" + name, BootstrapServers: "localhost:9092", Backoff: kafka.Backoff{Min: time.Hour, Max: time.Hour}}
		c.Failure.DeadLetter.Topic = "payments.dlq"
		return c
	}
	s.Start(kafka.NewConsumer(config("orders"), handle), kafka.NewConsumer(config("payments"), handle))
	s.Producer()
	for i := range 20 {
		s.Send("orders", fmt.Sprint(i), "good")
	}
}

// fail sends a record to payments and waits until it has failed.
func (s *service) fail() *kafka.Message {
	bad := s.Send("payments", "1", "bad")
	s.WaitFailed(bad, 1)
	return bad
}

// Every action is clicked, and its effect seen in the manager and on the page.
func TestActions(t *testing.T) {
	s, b := start(t, kafkahttp.WithControls()), open(t)
	s.consume()
	page := s.url + "consumer?name=payments"

	bad := s.fail()
	b.run(chromedp.Navigate(page))
	b.await("The record at offset 0 has failed.")
	b.click("button", "Try offset 0 now")
	s.WaitAttempts(bad, 2)
	b.await("Trying the record of payments/0 at offset 0 now.")
	b.await("has failed 2 times")

	b.click("summary", "Dead letter …")
	b.click("button", "Send offset 0 to the dead letters")
	assert.Empty(t, s.DeadLetters("payments.dlq"), "it has not been confirmed")
	b.run(chromedp.Click(`details[open] input[type=checkbox]`))
	b.click("button", "Send offset 0 to the dead letters")
	s.WaitDead(bad)
	b.await("Dead letter of payments/0 at offset 0 in payments.dlq (operator).")

	bad = s.fail()
	b.await("The record at offset 1 has failed.")
	b.click("summary", "Skip …")
	b.run(chromedp.Click(`details[open] input[type=checkbox]`))
	b.click("button", "Skip offset 1")
	s.WaitSkipped(bad)
	b.await("Skipping the record of payments/0 at offset 1.")

	s.outage.Store(true)
	held := s.Send("payments", "1", "outage")
	b.await("Held: nothing is handed out.")
	b.await("the bank does not answer")
	s.outage.Store(false)
	b.click("button", "End the hold")
	s.WaitHandled(held)
	b.await("The hold of payments is over")

	partition := kafka.TopicPartition{Topic: "payments"}
	status := func() kafka.ConsumerStatus {
		one, err := s.Consumer("payments")
		require.NoError(t, err)
		return one
	}
	b.click("button", "Pause payments/0")
	b.await("payments/0 is paused in this process")
	b.await("Paused by an operator: payments/0.")
	assert.Equal(t, []kafka.TopicPartition{partition}, status().PausedPartitions)
	waits := s.Send("payments", "1", "good")
	b.click("button", "Resume payments/0")
	b.await("payments/0 is resumed.")
	s.WaitHandled(waits)
	assert.Empty(t, status().PausedPartitions)

	b.click("button", "Pause payments")
	b.await("Paused by an operator: nothing is handed out.")
	assert.True(t, status().Paused)
	waits = s.Send("payments", "1", "good")
	b.click("button", "Resume payments")
	b.await("payments is resumed.")
	s.WaitHandled(waits)
	assert.False(t, status().Paused)

	rate := func(perSecond string) {
		b.click("summary", "Rate …")
		b.run(chromedp.SetValue(`#rate input[type=number]`, perSecond, chromedp.ByQuery))
		b.click("button", "Set the rate")
	}
	rate("0.001")
	b.await("payments hands out at most 0.001 records per second in this process.")
	assert.Equal(t, 0.001, status().MaxRate)
	s.Send("payments", "1", "good") // the burst is one record
	waits = s.Send("payments", "1", "good")
	b.await("Slowed by its rate: at most 0.001 records per second.")
	rate("0")
	b.await("payments hands out records without a bound.")
	s.WaitHandled(waits)
	assert.Zero(t, status().MaxRate)

	s.WaitCommitted("payments")
	before := s.Attempts(waits)
	b.click("summary", "Move …")
	b.run(chromedp.Click(`#seek input[value=offset]`, chromedp.ByQuery), chromedp.SetValue(`#seek input[name=offset]`, fmt.Sprint(waits.Offset), chromedp.ByQuery),
		chromedp.SetValue(`#seek input[name=partition]`, "payments/0", chromedp.ByQuery))
	b.click("button", "Show what a move would do")
	b.await("Nothing was done yet. At most 1 record is handled again.")
	b.await(fmt.Sprintf("payments/0\t%d\t%d\t1\t0", waits.Offset+1, waits.Offset))
	b.click("button", "Move payments")
	assert.Equal(t, before, s.Attempts(waits), "it has not been confirmed")
	b.run(chromedp.Click(`input[type=checkbox]`))
	b.click("button", "Move payments")
	b.await(fmt.Sprintf("payments is moved to offset %d in 1 partition. At most 1 record is handled again.", waits.Offset))
	s.WaitAttempts(waits, before+1)
	b.await(fmt.Sprintf("Moved to offset %d by an operator: payments/0.", waits.Offset))

	s.mended.Store(true)
	b.click("summary", "Redrive …")
	b.run(chromedp.Click(`#redrive input[value=start]`, chromedp.ByQuery))
	b.click("button", "Show what a redrive would do")
	b.await("Nothing was done yet. A run would send 1 dead letter: 1 read.")
	produced := len(s.Produced("payments"))
	b.click("button", "Redrive payments")
	assert.Len(t, s.Produced("payments"), produced, "it has not been confirmed")
	b.run(chromedp.Click(`input[type=checkbox]`))
	b.click("button", "Redrive payments")
	b.await("1 dead letter of payments sent again: 1 read.")
	require.Len(t, s.Produced("payments"), produced+1)
	waits = s.Produced("payments")[produced]
	assert.Equal(t, "bad", string(waits.Value))
	s.WaitHandled(waits)
	b.await("Redrive of payments.dlq to {source} begins.")

	b.click("summary", "Switch off …")
	b.click("button", "Switch payments off")
	s.WaitState("payments", kafka.StateOff)
	b.await("Switched off in this process.")
	for range 3 {
		waits = s.Send("payments", "1", "good")
	}
	b.click("a", "Lag of the whole group")
	b.await("All partitions of the group")
	b.await(fmt.Sprintf("payments/0\t3\t%[1]d\t%[1]d\t0\t%[2]d", waits.Offset-2, waits.Offset+1))
	b.run(chromedp.Click(`dd a[href^="consumer?"]`, chromedp.ByQuery))
	b.await("Switched off in this process.")
	b.click("summary", "Move …")
	b.run(chromedp.Click(`#seek input[value=end]`, chromedp.ByQuery))
	b.click("button", "Show what a move would do")
	b.await("Nothing was done yet. At most 3 records are skipped.")
	b.run(chromedp.Click(`input[type=checkbox]`))
	b.click("button", "Move payments")
	b.await("payments is moved to the end in 1 partition. At most 3 records are skipped.")
	assert.Equal(t, waits.Offset+1, s.Committed("payments", "payments", 0))
	b.click("button", "Switch on")
	s.WaitState("payments", kafka.StateRunning)
	b.await("payments is switched on in this process.")
	assert.Empty(t, b.complaints)
}

// The same by keyboard alone.
func TestKeyboard(t *testing.T) {
	s, b := start(t, kafkahttp.WithControls()), open(t)
	s.consume()
	s.Send("payments", "1", "good")
	b.run(chromedp.Navigate(s.url))
	b.await("payments")
	focus := func(text string) {
		t.Helper()
		for range 40 {
			b.run(chromedp.KeyEvent(kb.Tab))
			if value[string](b, "document.activeElement.textContent.trim()") == text {
				assert.Equal(t, "solid", value[string](b, "getComputedStyle(document.activeElement).outlineStyle"), "the focus shows")
				return
			}
		}
		require.Fail(t, "cannot be reached by keyboard", text)
	}
	b.run(chromedp.KeyEvent(kb.Tab))
	assert.Equal(t, "Skip to the content", value[string](b, "document.activeElement.textContent"))
	focus("payments")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.await("Partitions here")
	handled := s.Produced("payments")
	s.WaitHandled(handled...)
	focus("Move …")
	b.run(chromedp.KeyEvent(kb.Enter))
	field := func(name string) {
		t.Helper()
		for range 40 {
			b.run(chromedp.KeyEvent(kb.Tab))
			if value[string](b, "document.activeElement.name || ''") == name {
				assert.Equal(t, "solid", value[string](b, "getComputedStyle(document.activeElement).outlineStyle"), "the focus shows")
				return
			}
		}
		require.Fail(t, "cannot be reached by keyboard", name)
	}
	field("to")
	b.run(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown))
	assert.Equal(t, "beginning", value[string](b, "document.activeElement.value"))
	focus("Show what a move would do")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.await("At most 1 record is handled again.")
	field("confirm")
	b.run(chromedp.KeyEvent(" "))
	focus("Move payments")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.await("payments is moved to the beginning in 1 partition.")
	s.WaitAttempts(handled[0], 2)

	dead := s.fail()
	require.NoError(t, s.Resolve(t.Context(), "payments", kafka.TopicPartition{Topic: "payments"}, dead.Offset, kafka.FailureDeadLetter))
	s.WaitDead(dead)
	s.mended.Store(true)
	focus("Redrive …")
	b.run(chromedp.KeyEvent(kb.Enter))
	field("from")
	b.run(chromedp.KeyEvent(kb.ArrowDown))
	assert.Equal(t, "start", value[string](b, "document.activeElement.value"))
	focus("Show what a redrive would do")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.await("A run would send 1 dead letter: 1 read.")
	field("confirm")
	b.run(chromedp.KeyEvent(" "))
	focus("Redrive payments")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.await("1 dead letter of payments sent again: 1 read.")
	again := s.Produced("payments")
	s.WaitHandled(again[len(again)-1])
	s.mended.Store(false)
	focus("Switch off …")
	b.run(chromedp.KeyEvent(kb.Enter))
	focus("Switch payments off")
	s.fail()
	b.await("The record at offset 3 has failed.")
	assert.Equal(t, "Switch payments off", value[string](b, "document.activeElement.textContent"), "the focus outlives an update")
	b.run(chromedp.KeyEvent(kb.Enter))
	s.WaitState("payments", kafka.StateOff)
}

// The page follows without a reload, and hostile text stays text.
func TestLive(t *testing.T) {
	s, b := start(t), open(t)
	b.run(chromedp.Navigate(s.url))
	b.await("No consumers are registered in this manager.")
	value[int](b, "window.loaded = 1")
	s.consume()
	b.await("2 well")
	s.fail()
	b.await("1 waiting for an operator")
	assert.Contains(t, b.text(), "<script>")
	require.NoError(t, s.SetConsumerSwitch("orders", false))
	b.await("Switched off in this process.")
	assert.Equal(t, 1, value[int](b, "window.loaded"), "it was not loaded again")
	assert.Equal(t, "Kafka", value[string](b, "document.title"))
	b.await("Live")
	assert.Positive(t, value[int](b, "document.querySelectorAll('#main time').length"))
	assert.Zero(t, value[int](b, "[...document.querySelectorAll('#main time')].filter(t => !/ ago|now|in /.test(t.textContent)).length"), "times have words after an update")

	hidden := func(is bool) {
		value[bool](b, fmt.Sprintf("Object.defineProperty(document, 'hidden', {value: %v, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))", is))
	}
	hidden(true)
	require.NoError(t, s.SetConsumerSwitch("orders", true))
	s.WaitState("orders", kafka.StateRunning)
	hidden(false)
	b.await("1 well")
	assert.Equal(t, 1, value[int](b, "window.loaded"), "it was not loaded again")
	assert.Empty(t, b.complaints)
}

// Without scripts the page shows the same, and its forms work.
func TestWithoutScripts(t *testing.T) {
	s, b := start(t, kafkahttp.WithControls()), open(t)
	s.consume()
	s.fail()
	get := func(url string) string {
		var html string
		b.run(chromedp.Navigate(url), chromedp.OuterHTML("html", &html, chromedp.ByQuery))
		return html
	}
	b.run(emulation.SetScriptExecutionDisabled(true))
	html := get(s.url)
	assert.Contains(t, html, "1</b> waiting for an operator")
	assert.NotContains(t, html, "hacked\"</script>")
	get(s.url + "consumer?name=orders")
	b.run(chromedp.Click(`#off summary`, chromedp.ByQuery), chromedp.Click(`#off button`, chromedp.ByQuery))
	s.WaitState("orders", kafka.StateOff)
	for end := time.Now().Add(time.Minute); !strings.Contains(html, "Done.") && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_ = chromedp.Run(b.ctx, chromedp.OuterHTML("html", &html, chromedp.ByQuery)) // the form's answer may be on its way
	}
	assert.Contains(t, html, "orders is switched off in this process")
	assert.Contains(t, get(s.url+"consumer?name=orders"), "Switched off in this process.")
	b.run(chromedp.Click(`a[href^="lag?"]`, chromedp.ByQuery))
	for end := time.Now().Add(time.Minute); !strings.Contains(html, "Ask again") && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_ = chromedp.Run(b.ctx, chromedp.OuterHTML("html", &html, chromedp.ByQuery))
	}
	assert.Contains(t, html, `<th scope="row">orders/0</th><td class="n">0</td>`)
	assert.Empty(t, b.complaints)
}

// At three widths, in both colour schemes: nothing is cut off, and axe finds no fault.
func TestLooks(t *testing.T) {
	s, b := start(t, kafkahttp.WithControls()), open(t)
	axe := axeSource(t)
	shoot := func(name string) {
		for _, width := range []int64{375, 768, 1280} {
			for _, scheme := range []string{"light", "dark"} {
				b.run(chromedp.EmulateViewport(width, 900), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
				at := fmt.Sprintf("%s-%d-%s", name, width, scheme)
				assert.LessOrEqual(t, value[int](b, "document.documentElement.scrollWidth"), int(width), at)
				if axe != "" {
					assert.Equal(t, "", violations(b, axe), at)
				}
				if *screenshots != "" {
					var png []byte
					b.run(chromedp.FullScreenshot(&png, 100))
					require.NoError(t, os.WriteFile(filepath.Join(*screenshots, at+".png"), png, 0o644))
				}
			}
		}
	}
	b.run(chromedp.Navigate(s.url))
	b.await("No consumers are registered")
	shoot("empty")
	s.consume()
	s.fail()
	if *screenshots != "" {
		time.Sleep(75 * time.Second) // some points of the lag's graph, which are taken every ten seconds
	}
	require.NoError(t, s.SetConsumerSwitch("orders", false))
	s.WaitState("orders", kafka.StateOff)
	b.run(chromedp.Navigate(s.url))
	b.await("1 waiting for an operator")
	shoot("overview")
	b.run(chromedp.Navigate(s.url + "consumer?name=payments"))
	b.await("The record at offset 0 has failed.")
	shoot("failing")
	b.click("summary", "Skip …")
	shoot("confirm")
	b.click("summary", "Move …")
	shoot("move")
	b.run(chromedp.Click(`#seek input[value=end]`, chromedp.ByQuery))
	b.click("button", "Show what a move would do")
	b.await("Nothing was done yet.")
	shoot("move-dry")
	b.run(chromedp.Navigate(s.url + "consumer?name=payments"))
	b.await("The record at offset 0 has failed.")
	b.click("summary", "Move …")
	b.click("button", "Show what a move would do")
	b.await("Not done.")
	shoot("refused")
	require.NoError(t, s.SetConsumerSwitch("orders", true))
	s.WaitState("orders", kafka.StateRunning)
	dead := s.Send("orders", "1", "bad")
	s.WaitFailed(dead, 1)
	require.NoError(t, s.Resolve(t.Context(), "orders", kafka.TopicPartition{Topic: "orders", Partition: dead.Partition}, dead.Offset, kafka.FailureDeadLetter))
	s.WaitDead(dead)
	b.run(chromedp.Navigate(s.url + "consumer?name=orders"))
	b.await("Redrive …")
	b.click("summary", "Redrive …")
	shoot("redrive")
	b.run(chromedp.Click(`#redrive input[value=start]`, chromedp.ByQuery))
	b.click("button", "Show what a redrive would do")
	b.await("A run would send 1 dead letter: 1 read.")
	shoot("redrive-dry")
	partition := kafka.TopicPartition{Topic: "payments"}
	require.NoError(t, s.Pause("payments"))
	require.NoError(t, s.Pause("payments", partition))
	s.Send("payments", "1", "good")
	b.run(chromedp.Navigate(s.url + "consumer?name=payments"))
	b.await("Paused by an operator: nothing is handed out.")
	shoot("paused")
	require.NoError(t, s.SetConsumerSwitch("orders", false))
	s.WaitState("orders", kafka.StateOff)
	b.run(chromedp.Navigate(s.url + "consumer?name=orders"))
	b.await("Switched off")
	shoot("off")
	s.Send("orders", "1", "good")
	b.run(chromedp.Navigate(s.url + "lag?name=orders"))
	b.await("Ask again")
	shoot("lag")
	b.run(chromedp.Navigate(s.url + "consumer?name=none"))
	b.await("no consumer of that job name")
	shoot("unknown")
}

// axeVersion is the version of axe-core that npm downloads.
const axeVersion = "4.11.4"

// axeSource returns the source of axe-core, or "" without npm.
func axeSource(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	dir := filepath.Join(cache, "gopkg-axe-"+axeVersion)
	file := filepath.Join(dir, "node_modules", "axe-core", "axe.min.js")
	if _, err := os.Stat(file); err != nil {
		if _, err := exec.LookPath("npm"); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal("no npm to download axe-core: apt-get install npm")
			}
			t.Log("accessibility is not checked: no npm to download axe-core")
			return ""
		}
		out, err := exec.CommandContext(t.Context(), "npm", "install", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", "axe-core@"+axeVersion).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(source)
}

// violations returns what axe finds on the page, a line per element.
func violations(b *tab, axe string) string {
	b.t.Helper()
	value[any](b, axe+"; 0")
	var all []string
	b.run(chromedp.Evaluate(`axe.run().then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + v.help + ": " + n.target + ": " + n.failureSummary)))`, &all,
		func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return strings.Join(all, "\n")
}

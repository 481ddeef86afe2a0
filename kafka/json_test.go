package kafka

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// D5: a status is readable as JSON: names for states, texts for errors, null for an
// absent error or time.
func TestFault_D5_StatusAsJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got, err := json.Marshal([]ConsumerStatus{{
		JobName: "orders", Topics: []string{"a"}, State: StateDisabled, Reason: errors.New(`no "access"`), Since: at,
		DriverError: errors.Join(errors.New("a"), errors.New("b")), DriverErrorAt: at,
		TopicErrors: []TopicError{{Topic: "a", Partition: -1, Err: errors.New("missing"), At: at}},
		Partitions:  []PartitionStatus{{Topic: "a", Partition: 1, LastError: &PanicError{Value: "boom", Stack: []byte("stack")}}},
	}})
	require.NoError(t, err)
	var status []map[string]any
	require.NoError(t, json.Unmarshal(got, &status))
	s := status[0]
	assert.Equal(t, "disabled", s["State"])
	assert.Equal(t, `no "access"`, s["Reason"])
	assert.Equal(t, `a\nb`, s["DriverError"])
	assert.Equal(t, "2026-01-02T03:04:05Z", s["Since"])
	for _, none := range []string{"CommitError", "NextRetry"} {
		assert.Contains(t, s, none)
		assert.Nil(t, s[none], none)
	}
	assert.Equal(t, "missing", s["TopicErrors"].([]any)[0].(map[string]any)["Err"])
	p := s["Partitions"].([]any)[0].(map[string]any)
	assert.Equal(t, "handler panicked: boom", p["LastError"])
	assert.Nil(t, p["Oldest"])
	assert.NotContains(t, string(got), "stack")

	// The JSON names every exported field.
	var plain map[string]any
	text, err := json.Marshal(struct{ plainStatus }{})
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &plain))
	for name := range plain {
		assert.Contains(t, s, name)
	}
	assert.Len(t, s, len(plain))
}

type plainStatus ConsumerStatus

// D5: a record that is dated beyond the year 9999, such as in microseconds by mistake, does
// not keep the status from being read.
func TestFault_D5_TimesAsJSON(t *testing.T) {
	for ms, want := range map[int64]any{
		1_700_000_000_000:     "2023-11-14T22:13:20Z",
		1_700_000_000_000_000: "55840-11-08T22:13:20Z",
		-99_999_999_999_999:   "-1199-02-15T14:13:20.001Z",
	} {
		got, err := json.Marshal([]ConsumerStatus{{JobName: "orders", Partitions: []PartitionStatus{{Oldest: time.UnixMilli(ms).UTC()}}}})
		require.NoError(t, err)
		var status []struct{ Partitions []struct{ Oldest any } }
		require.NoError(t, json.Unmarshal(got, &status))
		assert.Equal(t, want, status[0].Partitions[0].Oldest)
	}
}

// D5: nor does it keep an event about it from being read.
func TestFault_D5_SourceOfAMisdatedRecordAsJSON(t *testing.T) {
	for ms, want := range map[int64]any{
		1_700_000_000_000:     "2023-11-14T22:13:20Z",
		1_700_000_000_000_000: "55840-11-08T22:13:20Z",
		-99_999_999_999_999:   "-1199-02-15T14:13:20.001Z",
	} {
		at := Source{Topic: "orders", Timestamp: time.UnixMilli(ms).UTC()}
		for _, e := range []Event{HandlerFailed{Source: at}, RecordSkipped{Source: at}, RecordForwarded{Source: at}, RecordRetried{Source: at}} {
			text, err := json.Marshal(e)
			require.NoError(t, err, "%T", e)
			var got struct{ Source map[string]any }
			require.NoError(t, json.Unmarshal(text, &got))
			assert.Equal(t, map[string]any{"Topic": "orders", "Partition": 0.0, "Offset": 0.0, "Timestamp": want}, got.Source)
		}
	}
	text, err := json.Marshal(Source{Topic: "orders"})
	require.NoError(t, err)
	assert.Equal(t, `{"Topic":"orders","Partition":0,"Offset":0,"Timestamp":null}`, string(text))
}

// D5: every kind of error.
func TestFault_D5_ErrorsAsJSON(t *testing.T) {
	var typedNil *PanicError
	cases := []struct {
		err  error
		want string
	}{
		{nil, `null`},
		{typedNil, `null`},
		{errors.New("line\n\x1b[31m"), `"line\\n\\x1b[31m"`},
		{panickingError{}, `"%!v(PANIC=Error method: no text)"`},
		{&StopError{Running: []string{"x"}, Err: errors.New("late")}, `"kafka: shutdown: late; still running: [x]"`},
	}
	for _, tt := range cases {
		got, err := json.Marshal(CommitFailed{JobName: "j", Err: tt.err})
		require.NoError(t, err)
		assert.Equal(t, `{"JobName":"j","Err":`+tt.want+`}`, string(got))
	}
	got, err := json.Marshal(CallbackPanicked{ProducerID: "p", Err: typedNil})
	require.NoError(t, err)
	assert.Equal(t, `{"ProducerID":"p","Err":null}`, string(got))
	got, err = json.Marshal(DriverError{Err: errors.New(strings.Repeat("x", 1<<20))})
	require.NoError(t, err)
	assert.Less(t, len(got), 3000)
}

type panickingError struct{}

func (panickingError) Error() string { panic("no text") }

// D5: the enumerations of package kafka are text, both ways.
func TestFault_D5_EnumerationsAreText(t *testing.T) {
	type text interface {
		fmt.Stringer
		encoding.TextMarshaler
	}
	cases := []struct {
		values []text
		back   encoding.TextUnmarshaler
		want   string
	}{
		{[]text{StateOff, StateStarting, StateRunning, StateBackingOff, StateDisabled, StateStopping, StateStopped}, new(State),
			`State "none such" is none of off, starting, running, backing off, disabled, stopping, stopped`},
		{[]text{OpSend, OpReceive, OpProcess, OpProcessBatch, OpAttempt, OpCommit}, new(OpKind),
			`OpKind "none such" is none of send, receive, process, process batch, attempt, commit`},
		{[]text{OutcomeDone, OutcomeFailed, OutcomeInterrupted, OutcomeLate, OutcomeForwarded, OutcomeSkipped, OutcomeRetryTopic}, new(Outcome),
			`Outcome "none such" is none of done, failed, interrupted, late, forwarded, skipped, retry topic`},
		{[]text{FailureKeep, FailureDeadLetter, FailureSkip, FailureStop, FailureHold, FailureRetryTopic}, new(Failure),
			`Failure "none such" is none of keep, dead letter, skip, stop, hold, retry topic`},
	}
	for _, tt := range cases {
		for _, v := range tt.values {
			got, err := json.Marshal(v)
			require.NoError(t, err)
			assert.Equal(t, `"`+v.String()+`"`, string(got))
			require.NoError(t, json.Unmarshal(got, tt.back))
			assert.Equal(t, v.String(), tt.back.(fmt.Stringer).String())
		}
		assert.EqualError(t, tt.back.UnmarshalText([]byte("none such")), tt.want)
	}
	for _, unknown := range []encoding.TextMarshaler{stateCount, State(-1), OpKind(0), opKindCount, outcomeCount, failureCount} {
		_, err := unknown.MarshalText()
		assert.Error(t, err)
	}
}

// D5: no event and no status that is added later is forgotten: a type with a
// field for an error has a MarshalJSON.
func TestFault_D5_NoErrorIsForgotten(t *testing.T) {
	isError := func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name == "error"
		case *ast.StarExpr:
			id, ok := e.X.(*ast.Ident)
			return ok && strings.HasSuffix(id.Name, "Error")
		}
		return false
	}
	marshals := func(name string) bool {
		file, err := parser.ParseFile(token.NewFileSet(), "json.go", nil, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Name.Name == "MarshalJSON" && f.Recv.List[0].Type.(*ast.Ident).Name == name {
				return true
			}
		}
		return false
	}
	found := 0
	for _, name := range []string{"event.go", "status.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					if isError(f.Type) {
						found++
						assert.True(t, marshals(spec.Name.Name), "%s has an error and no MarshalJSON in json.go", spec.Name.Name)
					}
				}
			}
			return true
		})
	}
	assert.Greater(t, found, 8)
}

package kafkahttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aarontianqx/gopkg/kafka"
)

// consumers writes the status of all consumers: [] if there are none. It encodes one at a
// time, since all of them can take tens of megabytes.
func (h *handler) consumers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	before := "["
	for _, s := range h.source.Consumers() {
		body, err := json.Marshal(h.seen(s))
		if err != nil {
			body, _ = json.Marshal(problem{"a consumer cannot be encoded"})
		}
		if _, err := fmt.Fprintf(w, "%s%s", before, body); err != nil {
			return
		}
		before = ",\n"
	}
	if before == "[" {
		fmt.Fprint(w, before)
	}
	fmt.Fprint(w, "]\n")
}

func (h *handler) consumer(w http.ResponseWriter, r *http.Request) {
	s, err := h.source.Consumer(r.PathValue("name"))
	if err != nil {
		writeJSON(w, http.StatusNotFound, problem{text(err)})
		return
	}
	writeJSON(w, http.StatusOK, h.seen(s))
}

func (h *handler) producers(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, append([]kafka.ProducerStatus{}, h.source.Producers()...))
}

// seen returns a status as a reader may see it.
func (h *handler) seen(s kafka.ConsumerStatus) kafka.ConsumerStatus {
	if h.hideErrors {
		return withoutErrors(s)
	}
	return s
}

// A problem is the answer to a request that was refused.
type problem struct {
	Error string `json:"error"`
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}

// errHidden stands for every error whose text is not shown.
var errHidden = errors.New("an error, whose text is not shown")

// withoutErrors returns v with each error in its exported fields replaced by errHidden.
// It changes nothing that v points to.
func withoutErrors[T any](v T) T {
	return *hide(reflect.ValueOf(&v).Elem()).Addr().Interface().(*T)
}

var errorType = reflect.TypeFor[error]()

// hide returns an addressable copy of v without errors.
func hide(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch {
	case v.Type() == errorType:
		if !v.IsNil() {
			c.Set(reflect.ValueOf(&errHidden).Elem())
		}
	case v.Type() == reflect.TypeFor[*kafka.PanicError]():
		if e, _ := v.Interface().(*kafka.PanicError); e != nil {
			c.Set(reflect.ValueOf(&kafka.PanicError{What: e.What, Value: errHidden}))
		}
	case v.Kind() == reflect.Interface && !v.IsNil():
		c.Set(hide(v.Elem()))
	case v.Kind() == reflect.Pointer && !v.IsNil() && v.Type().Elem().Kind() == reflect.Struct:
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(hide(v.Elem()))
		c.Set(p)
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct:
		s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			s.Index(i).Set(hide(v.Index(i)))
		}
		c.Set(s)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				c.Field(i).Set(hide(v.Field(i)))
			}
		}
	}
	return c
}

// maxText is the longest text of an error on the page, in bytes.
const maxText = 600

// text returns an error's text for people: one line per line, without control characters,
// and cut.
func text(err error) string {
	if err == nil {
		return ""
	}
	return printable(fmt.Sprint(err)) // Sprint survives an Error that panics
}

func printable(s string) string {
	if len(s) > maxText {
		end := maxText
		for end > maxText-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end] + " …"
	}
	return strings.Map(func(r rune) rune {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

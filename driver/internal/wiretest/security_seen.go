package wiretest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// everything is all text that was logged or printed.
type everything struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (e *everything) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(b)
}

// note prints v in every way.
func (e *everything) note(v any) {
	js, _ := json.Marshal(v)
	fmt.Fprintf(e, "%v\n%+v\n%#v\n%s\n", v, v, v, js)
}

func (e *everything) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// wantHidden looks for a secret in all that was printed, in every form.
func (e *everything) wantHidden(t *testing.T, secrets ...string) {
	t.Helper()
	out := e.String()
	assert.NotEmpty(t, out, "nothing was printed")
	for _, secret := range secrets {
		for _, form := range disguises(secret) {
			i := strings.Index(out, form)
			assert.Negative(t, i, "%q shows as %q in …%s…", secret, form, out[max(0, i-200):min(len(out), max(0, i)+200)])
		}
	}
}

// disguises returns encodings of a secret, which must not show either: for base64, at
// the three positions in a group of bytes, without characters that depend on its
// neighbours.
func disguises(secret string) []string {
	forms := []string{
		secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		fmt.Sprintf("% x", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			s := enc.EncodeToString(append(make([]byte, shift), secret...))
			forms = append(forms, s[shift+1:len(s)-1])
		}
	}
	return forms
}

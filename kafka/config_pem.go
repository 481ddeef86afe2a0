package kafka

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
)

// mostPEM bounds what is read of a file: the largest bundles of authorities have
// half a MiB, and a path can name a device that has no end.
const mostPEM = 16 << 20

// pemText is what CAFile, CertFile or KeyFile says: the path of a PEM file, or
// PEM text itself (KIP-651). Secrets are pasted into these fields, so nothing
// prints one except through shown and name.
type pemText string

// inline reports whether s is PEM text. No path begins so.
func (s pemText) inline() bool {
	return strings.HasPrefix(strings.TrimSpace(string(s)), "-----BEGIN ")
}

// pasted reports whether s is no path, but something else that was pasted there
// and can be secret: it has dashes of PEM, a line break, a brace of a JSON key, or
// it is DER in base64.
func (s pemText) pasted() bool {
	text := string(s)
	return strings.Contains(text, "-----") || strings.ContainsAny(text, "\n\r\x00{}") ||
		len(text) > maxPath || base64DER(text)
}

const maxPath = 4096 // of Linux, with its final NUL

// base64DER reports whether s begins as every key and certificate does in base64,
// with an ASN.1 sequence, and goes on in base64 for longer than a file's name
// without a dot.
func base64DER(s string) bool {
	const shortestKey = 40
	s = strings.TrimSpace(s)
	return len(s) >= shortestKey && s[0] == 'M' && 'A' <= s[1] && s[1] <= 'P' &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return r > 0x7f || !alphanumeric(byte(r)) && !strings.ContainsRune("+/= ", r)
		})
}

// shown is s as a printed configuration shows it: a path, or nothing of it.
func (s pemText) shown() string {
	if s.inline() || s.pasted() {
		return driver.Secret(s).String()
	}
	return string(s)
}

// name is what a message calls it.
func (s pemText) name() string {
	if s.inline() {
		return "the PEM text"
	}
	return quote(string(s))
}

// pem returns the PEM text that a field names or holds.
func (p *problems) pem(field string, s pemText) (data []byte, ok bool) {
	if s.pasted() && !s.inline() {
		p.add(field, "is neither the path of a file nor PEM text that begins with -----BEGIN; its value is not shown, since it may be a secret")
		return nil, false
	}
	data, err := s.read()
	switch {
	case err != nil:
		p.wrap(field, err, "") // the error names the path
	case len(bytes.TrimSpace(data)) == 0:
		p.add(field, "%s is empty", s.name())
	default:
		return data, true
	}
	return nil, false
}

// read returns the text, or what the file has now.
func (s pemText) read() ([]byte, error) {
	if s.inline() {
		return bytes.TrimSpace([]byte(s)), nil
	}
	f, err := os.Open(string(s))
	if err != nil {
		return nil, printablePath(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostPEM+1))
	if err == nil && len(data) > mostPEM {
		err = &fs.PathError{Op: "read", Path: string(s), Err: errors.New("larger than 16 MiB")}
	}
	return data, printablePath(err)
}

// printablePath returns err with a path that can stand in a line.
func printablePath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: e.Op, Path: driver.Printable(e.Path, 0), Err: e.Err}
	}
	return err
}

// blocks decodes all of a PEM text. Package pem passes over a block that it
// cannot read, such as the last one of a file that was cut off.
func (p *problems) blocks(field string, s pemText, data []byte) (blocks []*pem.Block, ok bool) {
	begun := bytes.Count(data, []byte("-----BEGIN "))
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	switch {
	case begun == 0:
		p.add(field, "%s %s", s.name(), notPEM(data))
	case len(blocks) < begun && s.inline():
		p.add(field, "%s is damaged: %d of its %d blocks can be read; are its line breaks missing?", s.name(), len(blocks), begun)
	case len(blocks) < begun:
		p.add(field, "%s is damaged: %d of its %d PEM blocks can be read", s.name(), len(blocks), begun)
	default:
		return blocks, true
	}
	return blocks, false
}

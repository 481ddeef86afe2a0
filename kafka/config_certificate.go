package kafka

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
)

// A certificate is the client's certificate, read again at each handshake, so
// that one that was renewed on disk is used from the next connection on.
type certificate struct {
	kind, name string
	cert, key  pemText
	log        *slog.Logger

	mu      sync.Mutex
	latest  *tls.Certificate // the latest that could be used
	failing bool             // and was logged
}

// forHandshake implements GetClientCertificate. As package crypto/tls does of
// itself, it sends none where the broker asks for one of another authority.
func (c *certificate) forHandshake(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert := c.read()
	if asked.SupportsCertificate(cert) != nil {
		return new(tls.Certificate), nil
	}
	return cert, nil
}

// read returns what the files hold now, or what they held the latest time that it
// could be used: certificate and key are two files, and between the writing of
// the one and of the other they do not match.
func (c *certificate) read() *tls.Certificate {
	now, err := c.load()
	changed, logged := c.keep(now, err)
	switch {
	case err != nil && !logged:
		c.log.Warn("kafka: the client's certificate cannot be read; the earlier one is used",
			"cert", printable(c.cert.shown()), "key", printable(c.key.shown()), "error", printableError(err))
	case err == nil && changed:
		c.log.Info("kafka: the client's certificate was renewed", "cert", printable(c.cert.shown()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.latest
}

// keep takes now as the latest unless err says that it is none. It reports whether
// that is another one, and whether a failure was there before.
func (c *certificate) keep(now *tls.Certificate, err error) (changed, logged bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	logged, c.failing = c.failing, err != nil
	if err != nil {
		return false, logged
	}
	changed = !bytes.Equal(c.latest.Certificate[0], now.Certificate[0])
	c.latest = now
	return changed, logged
}

// load reads both files. It refuses a chain of which the end is missing: package
// crypto/tls would take what is there, and brokers would not.
func (c *certificate) load() (*tls.Certificate, error) {
	p := &problems{kind: c.kind, name: c.name}
	pair, _ := p.pair(c.cert, c.key)
	return &pair, errors.Join(p.errs...)
}

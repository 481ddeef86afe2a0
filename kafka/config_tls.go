package kafka

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
)

// tls returns a copy of t that the caller can no longer change, and what it
// says for package crypto/tls; both are nil only if t is.
func (p *problems) tls(t *TLSConfig) (*TLSConfig, *tls.Config) {
	if t == nil {
		return nil, nil
	}
	kept := *t
	kept.Config = cloneTLS(t.Config)
	cfg := cloneTLS(t.Config)
	if cfg == nil {
		cfg = &tls.Config{}
	}
	p.serverOnly(cfg)
	p.authorities(t, cfg)
	p.certificate(t, cfg)
	p.serverName(t, cfg)
	p.unverified(t, cfg)
	p.versions(cfg)
	return &kept, cfg
}

// cloneTLS goes one level deeper than Clone, which shares the slices. What the
// functions of a tls.Config do remains their owner's.
func cloneTLS(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.Certificates = slices.Clone(c.Certificates)
	c.NextProtos = slices.Clone(c.NextProtos)
	c.CipherSuites = slices.Clone(c.CipherSuites)
	c.CurvePreferences = slices.Clone(c.CurvePreferences)
	c.EncryptedClientHelloConfigList = slices.Clone(c.EncryptedClientHelloConfigList)
	if c.RootCAs != nil {
		c.RootCAs = c.RootCAs.Clone()
	}
	return c
}

// serverOnly refuses what has no effect on a client. A program that sets it
// expects an effect, such as that ClientCAs says which brokers to trust.
func (p *problems) serverOnly(c *tls.Config) {
	for _, s := range []struct {
		field string
		set   bool
	}{
		{"ClientAuth", c.ClientAuth != tls.NoClientCert},
		{"ClientCAs", c.ClientCAs != nil},
		{"GetCertificate", c.GetCertificate != nil},
		{"GetConfigForClient", c.GetConfigForClient != nil},
		{"WrapSession", c.WrapSession != nil},
		{"UnwrapSession", c.UnwrapSession != nil},
		{"EncryptedClientHelloKeys", c.EncryptedClientHelloKeys != nil},
		{"GetEncryptedClientHelloKeys", c.GetEncryptedClientHelloKeys != nil},
	} {
		if s.set {
			p.add("TLS.Config."+s.field, "is for servers and has no effect on a client")
		}
	}
}

func (p *problems) authorities(t *TLSConfig, cfg *tls.Config) {
	const field = "TLS.CAFile"
	if t.CAFile == "" {
		return
	}
	if cfg.RootCAs != nil {
		p.add(field, "is set, and so is Config.RootCAs")
	}
	ca := pemText(t.CAFile)
	if data, ok := p.pem(field, ca); ok {
		cfg.RootCAs = p.pool(field, ca, data)
	}
}

// pool takes every certificate of a file, or none: a broker whose authority was
// left out could not be reached, and that would show only when it is needed.
func (p *problems) pool(field string, ca pemText, data []byte) *x509.CertPool {
	blocks, _ := p.blocks(field, ca, data)
	pool, n := x509.NewCertPool(), 0
	why := "holds no CERTIFICATE"
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			why = cmp.Or(unusable(block), why)
			continue
		}
		n++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			p.wrap(field, err, "%s: certificate %d", ca.name(), n)
			continue
		}
		pool.AddCert(cert)
	}
	if n == 0 && len(blocks) > 0 {
		p.add(field, "%s %s", ca.name(), why)
	}
	return pool
}

func (p *problems) certificate(t *TLSConfig, cfg *tls.Config) {
	switch {
	case t.CertFile == "" && t.KeyFile == "":
		return
	case t.KeyFile == "":
		p.add("TLS.KeyFile", "is empty, and CertFile is set")
	case t.CertFile == "":
		p.add("TLS.CertFile", "is empty, and KeyFile is set")
	case len(cfg.Certificates) > 0 || cfg.GetClientCertificate != nil:
		p.add("TLS.CertFile", "is set, and so is Config.Certificates or Config.GetClientCertificate")
	default:
		p.keyPair(pemText(t.CertFile), pemText(t.KeyFile), cfg)
	}
}

// keyPair reads certificate and key now, so that a mistake shows at registration,
// and again at each handshake.
func (p *problems) keyPair(cert, key pemText, cfg *tls.Config) {
	pair, ok := p.pair(cert, key)
	if !ok {
		return
	}
	if cert.inline() && key.inline() { // and so can never change
		cfg.Certificates = []tls.Certificate{pair}
		return
	}
	c := &certificate{kind: p.kind, name: p.name, cert: cert, key: key, log: p.log, latest: &pair}
	cfg.GetClientCertificate = c.forHandshake
}

// pair returns the certificate and its key if both are whole and match.
func (p *problems) pair(certFile, keyFile pemText) (pair tls.Certificate, ok bool) {
	cert, certBlocks, okCert := p.whole("TLS.CertFile", certFile)
	key, keyBlocks, okKey := p.whole("TLS.KeyFile", keyFile)
	if !okCert || !okKey {
		return pair, false
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err == nil {
		return pair, true
	}
	certBad, keyBad := p.unusable("TLS.CertFile", certFile, certBlocks), p.unusable("TLS.KeyFile", keyFile, keyBlocks)
	if !certBad && !keyBad {
		p.wrap("TLS.CertFile", err, "%s with KeyFile %s", certFile.name(), keyFile.name())
	}
	return pair, false
}

// whole returns the PEM of a field if all of its blocks can be read.
func (p *problems) whole(field string, s pemText) (data []byte, blocks []*pem.Block, ok bool) {
	if data, ok = p.pem(field, s); ok {
		blocks, ok = p.blocks(field, s, data)
	}
	return data, blocks, ok
}

// unusable names the first block that package crypto/tls cannot use, if any.
func (p *problems) unusable(field string, s pemText, blocks []*pem.Block) bool {
	for _, b := range blocks {
		if why := unusable(b); why != "" {
			p.add(field, "%s %s", s.name(), why)
			return true
		}
	}
	return false
}

func (p *problems) serverName(t *TLSConfig, cfg *tls.Config) {
	switch {
	case t.ServerName == "":
		return
	case cfg.ServerName != "" && cfg.ServerName != t.ServerName:
		p.add("TLS.ServerName", "%s is not Config.ServerName (%s)", quote(t.ServerName), quote(cfg.ServerName))
	case !validHost(t.ServerName):
		p.add("TLS.ServerName", "%s is not a host name; a port does not belong to it", quote(t.ServerName))
	}
	cfg.ServerName = t.ServerName
}

func (p *problems) unverified(t *TLSConfig, cfg *tls.Config) {
	cfg.InsecureSkipVerify = cfg.InsecureSkipVerify || t.InsecureSkipVerify
	if cfg.InsecureSkipVerify {
		p.warn("TLS.InsecureSkipVerify: certificates are not verified: " +
			"anyone on the network path can read and modify traffic")
	}
}

// versions keeps TLS 1.2 as the least whatever the process's own default is,
// unless the caller's tls.Config names another.
func (p *problems) versions(cfg *tls.Config) {
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	newest := uint16(tls.VersionTLS13)
	if cfg.MaxVersion != 0 {
		newest = cfg.MaxVersion
	}
	if cfg.MinVersion > newest {
		p.add("TLS.Config.MinVersion", "%s is above the newest version allowed (%s)",
			tls.VersionName(cfg.MinVersion), tls.VersionName(newest))
	}
	if cfg.MinVersion < tls.VersionTLS12 {
		p.warn("TLS.Config.MinVersion: %s has known weaknesses", tls.VersionName(cfg.MinVersion))
	}
}

// Format prints every verb as %+v, which shows where Config is but not what it
// holds: others, such as %s, would go on to the private keys in it. Nor does PEM
// text show that stands in place of a path.
func (t TLSConfig) Format(f fmt.State, verb rune) {
	type plain TLSConfig
	fmt.Fprintf(f, "%+v", plain(t.shown()))
}

// MarshalJSON says whether there is a Config, not what it holds: private keys,
// and functions, which have no JSON. PEM text does not show.
func (t TLSConfig) MarshalJSON() ([]byte, error) {
	type plain TLSConfig
	return json.Marshal(struct {
		plain
		Config bool `json:",omitzero"` // in place of plain's
	}{plain(t.shown()), t.Config != nil})
}

// MarshalText is what Format prints, for encodings other than JSON that ask for
// text: they would show PEM text that stands in place of a path.
func (t TLSConfig) MarshalText() ([]byte, error) { return fmt.Append(nil, t), nil }

// shown returns t without PEM text.
func (t TLSConfig) shown() TLSConfig {
	for _, field := range []*string{&t.CAFile, &t.CertFile, &t.KeyFile} {
		*field = pemText(*field).shown()
	}
	return t
}

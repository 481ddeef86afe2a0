package kafka

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
)

// tls returns a copy of t that the caller can not change any more, and what it
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

// serverOnly refuses what has no effect on a client: who sets it believes that
// it has, such as that ClientCAs says which brokers to trust.
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
	data, ok := p.file(field, t.CAFile)
	if ok {
		cfg.RootCAs = p.pool(field, t.CAFile, data)
	}
}

// pool takes every certificate of a file, or none: a broker whose authority was
// left out could not be reached, and that would show only when it is needed.
func (p *problems) pool(field, path string, data []byte) *x509.CertPool {
	blocks := p.blocks(field, path, data)
	pool, n := x509.NewCertPool(), 0
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			p.wrap(field, err, "%s: certificate %d", quote(path), n)
			continue
		}
		pool.AddCert(cert)
	}
	if n == 0 && len(blocks) > 0 {
		p.add(field, "%s holds no CERTIFICATE", quote(path))
	}
	return pool
}

// blocks decodes all of a PEM file. Package pem passes over a block that it can
// not read, such as the last one of a file that was cut off.
func (p *problems) blocks(field, path string, data []byte) (blocks []*pem.Block) {
	begun := bytes.Count(data, []byte("-----BEGIN "))
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	switch {
	case begun == 0:
		p.add(field, "%s is not PEM", quote(path))
	case len(blocks) < begun:
		p.add(field, "%s is damaged: %d of its %d PEM blocks can be read", quote(path), len(blocks), begun)
	}
	return blocks
}

// file reads what a field names.
func (p *problems) file(field, path string) (data []byte, ok bool) {
	data, err := os.ReadFile(path)
	switch {
	case err != nil:
		p.wrap(field, err, "") // the error names the path
	case len(bytes.TrimSpace(data)) == 0:
		p.add(field, "%s is empty", quote(path))
	default:
		return data, true
	}
	return nil, false
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
		p.keyPair(t.CertFile, t.KeyFile, cfg)
	}
}

func (p *problems) keyPair(certFile, keyFile string, cfg *tls.Config) {
	cert, okCert := p.file("TLS.CertFile", certFile)
	key, okKey := p.file("TLS.KeyFile", keyFile)
	if !okCert || !okKey {
		return
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		p.wrap("TLS.CertFile", err, "%s with KeyFile %s", quote(certFile), quote(keyFile))
		return
	}
	cfg.Certificates = []tls.Certificate{pair}
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
		p.warn("TLS.InsecureSkipVerify: ANY CERTIFICATE IS ACCEPTED; " +
			"who stands between this process and the brokers can read and change everything")
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
// holds: others, such as %s, would go on to the private keys in it.
func (t TLSConfig) Format(f fmt.State, verb rune) {
	type plain TLSConfig
	fmt.Fprintf(f, "%+v", plain(t))
}

// MarshalJSON says whether there is a Config, not what it holds: private keys,
// and functions, which have no JSON.
func (t TLSConfig) MarshalJSON() ([]byte, error) {
	type plain TLSConfig
	return json.Marshal(struct {
		plain
		Config bool `json:",omitzero"` // in place of plain's
	}{plain(t), t.Config != nil})
}

package kafkacluster

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Security adds to the PLAINTEXT listener
//
//	SSL             TLS; the client must have a certificate of Cluster.Authority
//	SASL_SSL        TLS and a user's password, by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
//	SASL_PLAINTEXT  the same without TLS
//
// and an authorizer by which a principal may do nothing until it is granted. The
// principal is User:name after SASL and User:CN=name after a certificate. The
// PLAINTEXT listener, whose principal is User:ANONYMOUS, may do everything.
type Security struct {
	// Users maps names to passwords.
	Users map[string]string

	// SuperUsers are further principals that may do everything, like
	// "User:alice".
	SuperUsers []string
}

func (s *Security) listeners() []string {
	if s == nil {
		return nil
	}
	return []string{"SSL", "SASL_SSL", "SASL_PLAINTEXT"}
}

func (s *Security) users() map[string]string {
	if s == nil {
		return nil
	}
	return s.Users
}

func (s *Security) validate() error {
	var errs []error
	for name, password := range s.users() {
		// These would end a value early, in the configuration or on the command line.
		if name == "" || password == "" || strings.ContainsAny(name+password, "\"\\,=[]; \t\n") {
			errs = append(errs, fmt.Errorf("kafkacluster: Security.Users: name or password of %q is empty or has a separator", name))
		}
	}
	return errors.Join(errs...)
}

// Authority returns the authority that signed the certificate of the brokers and
// whose client certificates they accept: nil without [Config.Security].
func (c *Cluster) Authority() *Authority { return c.ca }

// secure writes the certificates and returns the properties that make a broker
// use them, none without Security.
func (c *Cluster) secure() (map[string]string, error) {
	s := c.cfg.Security
	if s == nil {
		return nil, nil
	}
	var err error
	if c.ca, err = NewAuthority(); err != nil {
		return nil, err
	}
	cert, key, err := c.ca.Issue(Certificate{CommonName: "broker", Hosts: []string{"127.0.0.1", "localhost"}})
	if err != nil {
		return nil, err
	}
	keystore := filepath.Join(c.dir, "broker.pem")
	truststore := filepath.Join(c.dir, "authority.pem")
	if err := os.WriteFile(keystore, slices.Concat(cert, key), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(truststore, c.ca.PEM(), 0o600); err != nil {
		return nil, err
	}
	props := map[string]string{
		"ssl.keystore.type":                 "PEM",
		"ssl.keystore.location":             keystore,
		"ssl.truststore.type":               "PEM",
		"ssl.truststore.location":           truststore,
		"ssl.client.auth":                   "none",
		"listener.name.ssl.ssl.client.auth": "required",
		"sasl.enabled.mechanisms":           "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"authorizer.class.name":             "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                       strings.Join(append([]string{"User:ANONYMOUS"}, s.SuperUsers...), ";"),
	}
	for _, listener := range []string{"sasl_ssl", "sasl_plaintext"} {
		prefix := "listener.name." + listener + "."
		props[prefix+"plain.sasl.jaas.config"] = s.plainLogin()
		for _, scram := range []string{"scram-sha-256", "scram-sha-512"} {
			props[prefix+scram+".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		}
	}
	return props, nil
}

// plainLogin names the users that may log in with PLAIN. Those of SCRAM are in
// the cluster's metadata, where format puts them.
func (s *Security) plainLogin() string {
	login := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for _, name := range slices.Sorted(maps.Keys(s.Users)) {
		login += fmt.Sprintf(" user_%s=%q", name, s.Users[name])
	}
	return login + ";"
}

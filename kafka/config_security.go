package kafka

import (
	"crypto/tls"

	"github.com/aarontianqx/gopkg/driver"
)

// A TLSConfig encrypts connections. Everything that it names is read and checked
// at registration; a setting that cannot be honoured is an error, never plaintext.
//
// CAFile, CertFile and KeyFile are the paths of PEM files, or PEM text itself, as
// an environment variable often holds it (KIP-651). PEM text does not show
// however the configuration is printed, logged or encoded.
type TLSConfig struct {
	// CAFile holds the authorities that brokers are checked against.
	// Default: the system's. It is read once: to move to another authority, let the
	// file hold both while brokers and clients are restarted.
	CAFile string

	// CertFile and KeyFile hold the client's certificate and its key, for mutual
	// TLS. One without the other is an error. The files are read again at each
	// handshake, so a renewed certificate is used from the next connection on. If
	// they cannot be used, because one of them is half written, say, the earlier
	// certificate stays in use and one warning is logged. An encrypted key is an
	// error, since no field holds its password.
	CertFile string
	KeyFile  string

	// ServerName is the name that a broker's certificate must have.
	// Default: the host name that was dialled.
	ServerName string

	// InsecureSkipVerify accepts any certificate of any broker. A warning is
	// logged at registration.
	InsecureSkipVerify bool

	// Config is used in place of a fresh one and is not changed; the fields above
	// are applied to a copy. A setting that Config and a field above make
	// differently is an error, and so is one for servers only, such as ClientCAs.
	// MinVersion is TLS 1.2 unless it is set; a lower one is warned of.
	Config *tls.Config
}

// A SASLConfig authenticates connections. Secrets do not show however it is
// printed, logged or encoded.
type SASLConfig struct {
	// Mechanism is one of the SASL constants, exactly. Required.
	Mechanism SASLMechanism

	// User and Password are required, but for OAUTHBEARER, where they are an
	// error. White space around them and control characters in them are refused:
	// they come from a file more often than they are meant.
	User     string
	Password Secret

	// TokenSource gives the tokens of OAUTHBEARER, for which it is required; with
	// another mechanism it is an error.
	TokenSource TokenSource

	// AllowPlaintext permits PLAIN and OAUTHBEARER without TLS, which show
	// password and token to anyone on the network path.
	AllowPlaintext bool
}

type (
	// SASLMechanism is a mechanism by its registered name.
	SASLMechanism = driver.SASLMechanism
	// Secret is a password or a token that does not show when it is printed,
	// logged or encoded.
	Secret = driver.Secret
	// TokenSource returns a bearer token that is valid now.
	TokenSource = driver.TokenSource
	// Token is an OAUTHBEARER token (KIP-255) with its extensions (KIP-342).
	Token = driver.Token
)

// The SASL mechanisms.
const (
	SASLPlain       = driver.SASLPlain
	SASLScramSHA256 = driver.SASLScramSHA256
	SASLScramSHA512 = driver.SASLScramSHA512
	SASLOAuthBearer = driver.SASLOAuthBearer
)

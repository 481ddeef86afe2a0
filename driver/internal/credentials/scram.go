package credentials

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
)

// maxIterations bounds the work that a server can ask for: a million rounds take half a
// second of CPU per connection. Kafka's default is 4096, and a broker rejects more than
// 16384.
const maxIterations = 1_000_000

// ErrSCRAM reports that the server did not prove that it knows the password, or broke the
// protocol. No retry cures it.
var ErrSCRAM = errors.New("SCRAM")

// ErrSCRAMServer reports that the server could not finish the exchange, for a reason of its own. A
// later exchange may succeed.
var ErrSCRAMServer = errors.New("SCRAM at the server")

// A SCRAM is one exchange of SCRAM (RFC 5802) on the client's side, without channel
// binding. Its methods are those of Sarama's SCRAMClient. Passwords must be printable
// ASCII, which SASLprep does not change: see [Check].
type SCRAM struct {
	hash  func() hash.Hash
	nonce string // the client's; drawn by Begin if empty

	password  string
	firstBare string // client-first-message-bare
	signature []byte // what the server must prove, once known
	steps     int
	done      bool
}

// NewSCRAM returns an exchange of SCRAM-SHA-256 or SCRAM-SHA-512.
func NewSCRAM(mechanism driver.SASLMechanism) *SCRAM {
	if mechanism == driver.SASLScramSHA256 {
		return &SCRAM{hash: sha256.New}
	}
	return &SCRAM{hash: sha512.New}
}

// Begin starts an exchange.
func (s *SCRAM) Begin(user, password, _ string) error {
	if s.nonce == "" {
		s.nonce = rand.Text()
	}
	s.password = password
	escaped := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
	s.firstBare = "n=" + escaped + ",r=" + s.nonce
	s.steps, s.done, s.signature = 0, false, nil
	return nil
}

// Done reports whether the server has answered for the last time.
func (s *SCRAM) Done() bool { return s.done }

// Step returns the answer to what the server sent, which is nothing at first. It returns an
// error that wraps ErrSCRAM if the server must not be trusted, or ErrSCRAMServer.
func (s *SCRAM) Step(challenge string) (string, error) {
	s.steps++
	switch s.steps {
	case 1:
		return "n,," + s.firstBare, nil
	case 2:
		return s.prove(challenge)
	case 3:
		s.done = true
		return "", s.verify(challenge)
	}
	return "", fmt.Errorf("%w: message after the end of the exchange", ErrSCRAM)
}

// prove answers the server's first message.
func (s *SCRAM) prove(serverFirst string) (string, error) {
	fields := attributes(serverFirst)
	nonce := fields["r"]
	if !strings.HasPrefix(nonce, s.nonce) || len(nonce) == len(s.nonce) {
		return "", fmt.Errorf("%w: the server's nonce does not extend the client's", ErrSCRAM)
	}
	salt, err := base64.StdEncoding.DecodeString(fields["s"])
	if err != nil || len(salt) == 0 {
		return "", fmt.Errorf("%w: the server sent no salt", ErrSCRAM)
	}
	rounds, err := strconv.Atoi(fields["i"])
	if err != nil || rounds < 1 || rounds > maxIterations {
		return "", fmt.Errorf("%w: iteration count %s is not within 1 and %d", ErrSCRAM, quoted(fields["i"]), maxIterations)
	}
	salted, err := pbkdf2.Key(s.hash, s.password, salt, rounds, s.hash().Size())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSCRAM, err)
	}
	final := "c=biws,r=" + nonce // biws is "n,,"
	message := s.firstBare + "," + serverFirst + "," + final
	key := s.mac(salted, "Client Key")
	h := s.hash()
	h.Write(key)
	proof := s.mac(h.Sum(nil), message)
	subtle.XORBytes(proof, proof, key)
	s.signature = s.mac(s.mac(salted, "Server Key"), message)
	return final + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// quoted returns foreign text for an error.
func quoted(s string) string { return `"` + driver.Printable(s, 0) + `"` }

// verify checks the server's proof that it knows the password, too.
func (s *SCRAM) verify(serverFinal string) error {
	fields := attributes(serverFinal)
	switch e := fields["e"]; e {
	case "":
	case "other-error", "no-resources":
		return fmt.Errorf("%w: it answered %s", ErrSCRAMServer, e)
	default:
		return fmt.Errorf("%w: the server answered %s", ErrSCRAM, quoted(e))
	}
	got, err := base64.StdEncoding.DecodeString(fields["v"])
	if err != nil || !hmac.Equal(got, s.signature) {
		return fmt.Errorf("%w: the server's signature is wrong", ErrSCRAM)
	}
	return nil
}

func (s *SCRAM) mac(key []byte, message string) []byte {
	m := hmac.New(s.hash, key)
	m.Write([]byte(message))
	return m.Sum(nil)
}

// attributes splits "a=x,b=y".
func attributes(message string) map[string]string {
	fields := map[string]string{}
	for f := range strings.SplitSeq(message, ",") {
		if name, value, ok := strings.Cut(f, "="); ok {
			fields[name] = value
		}
	}
	return fields
}

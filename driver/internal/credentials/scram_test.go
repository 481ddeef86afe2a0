package credentials

import (
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// The exchanges of RFC 5802, section 5, and RFC 7677, section 3.
var scramVectors = []struct {
	name                                      string
	hash                                      func() hash.Hash
	nonce, first, server, final, serverAnswer string
}{
	{
		"SHA-1", sha1.New, "fyko+d2lbbFgONRv9qkxdawL",
		"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
		"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
		"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
		"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
	},
	{
		"SHA-256", sha256.New, "rOprNGfwEbeRWgbNEkqO",
		"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
	},
}

func TestSCRAMVectors(t *testing.T) {
	for _, v := range scramVectors {
		t.Run(v.name, func(t *testing.T) {
			s := &SCRAM{hash: v.hash, nonce: v.nonce}
			require.NoError(t, s.Begin("user", "pencil", ""))
			for _, step := range []struct{ challenge, want string }{
				{"", v.first}, {v.server, v.final}, {v.serverAnswer, ""},
			} {
				got, err := s.Step(step.challenge)
				require.NoError(t, err, "Step(%q)", step.challenge)
				require.Equal(t, step.want, got, "Step(%q)", step.challenge)
			}
			assert.True(t, s.Done(), "Done")
		})
	}
}

func TestSCRAMRefusesAServer(t *testing.T) {
	good := scramVectors[1]
	cases := []struct{ name, server, answer string }{
		{"whose nonce is another", strings.Replace(good.server, "r=rOpr", "r=xOpr", 1), ""},
		{"whose nonce adds nothing", "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", ""},
		{"without salt", strings.Replace(good.server, "s=W22ZaJ0SNY7soEsUEjb6gQ==", "s=", 1), ""},
		{"whose salt is not base64", strings.Replace(good.server, "s=W22Z", "s=!!!", 1), ""},
		{"with no iterations", strings.Replace(good.server, "i=4096", "i=0", 1), ""},
		{"with too many iterations", strings.Replace(good.server, "i=4096", "i=2000000000", 1), ""},
		{"that sends nonsense", "nonsense", ""},
		{"that does not know the password", good.server, "v=" + strings.Repeat("A", 43) + "="},
		{"that does not prove anything", good.server, ""},
		{"that says no", good.server, "e=invalid-proof"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &SCRAM{hash: good.hash, nonce: good.nonce}
			_ = s.Begin("user", "pencil", "")
			_, _ = s.Step("")
			_, err := s.Step(c.server)
			if c.server == good.server { // it is refused by its answer only
				require.NoError(t, err)
				_, err = s.Step(c.answer)
			}
			assert.ErrorIs(t, err, ErrSCRAM)
		})
	}
}

// TestSCRAMOfAServerInTrouble: these two errors of RFC 5802 say nothing of the password.
func TestSCRAMOfAServerInTrouble(t *testing.T) {
	good := scramVectors[1]
	for _, e := range []string{"other-error", "no-resources"} {
		s := &SCRAM{hash: good.hash, nonce: good.nonce}
		require.NoError(t, s.Begin("user", "pencil", ""))
		for _, challenge := range []string{"", good.server} {
			_, err := s.Step(challenge)
			require.NoError(t, err)
		}
		_, err := s.Step("e=" + e)
		assert.ErrorIs(t, err, ErrSCRAMServer)
		assert.NotErrorIs(t, err, ErrSCRAM)
	}
}

func TestSCRAMNonces(t *testing.T) {
	a, b := NewSCRAM("SCRAM-SHA-256"), NewSCRAM("SCRAM-SHA-256")
	_, _ = a.Begin("u", "p", ""), b.Begin("u", "p", "")
	assert.NotEqual(t, a.nonce, b.nonce)
	assert.GreaterOrEqual(t, len(a.nonce), 20, "length of %q", a.nonce)
	s := &SCRAM{nonce: "n"}
	_ = s.Begin("a=b,c", "p", "")
	got, err := s.Step("")
	require.NoError(t, err)
	assert.Equal(t, "n,,n=a=3Db=2Cc,r=n", got, "= and , in a user's name are escaped")
}

// TestFault_H10_SCRAMIterationsAreBounded tries both sides of the bound.
func TestFault_H10_SCRAMIterationsAreBounded(t *testing.T) {
	for _, c := range []struct {
		rounds string
		ok     bool
	}{
		{"4096", true}, {"1000000", true}, {"1000001", false}, {"10000000", false},
		{"0", false}, {"-1", false}, {"99999999999999999999", false}, {strings.Repeat("9", 1<<20), false},
	} {
		s := NewSCRAM(driver.SASLScramSHA256)
		require.NoError(t, s.Begin("u", "p", ""))
		_, err := s.Step("")
		require.NoError(t, err)
		began := time.Now()
		_, err = s.Step("r=" + s.nonce + "x,s=c2FsdA==,i=" + c.rounds)
		if c.ok {
			assert.NoError(t, err, "%s rounds", c.rounds)
			continue
		}
		require.ErrorIs(t, err, ErrSCRAM)
		assert.Less(t, len(err.Error()), 1000, "length of the error")
		assert.Less(t, time.Since(began), time.Second, "time for a refusal")
	}
}

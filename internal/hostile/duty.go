//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

// childVariable holds the duty of a process that is a victim.
const childVariable = "GOPKG_HOSTILE_CHILD"

// drivers are those that a victim can have.
var drivers = map[string]driver.Driver{"sarama": sarama.Driver{}, "franz": franz.Driver{}}

// A duty is what a victim's process has to do.
type duty struct {
	Driver  string // its name, in drivers
	Healthy string // bootstrap servers of the innocent
	Hostile string // and of the victims

	Topics   []string
	Consumer bool
	Producer bool
	Oldest   bool
	Session  time.Duration
	CA       string // PEM; empty is plaintext
	SCRAM    bool
	For      time.Duration // how long the attack is borne
	Running  bool          // only until the victim runs
	Bootstrap
}

// Bootstrap is a list of brokers that a user has written, which must be refused.
type Bootstrap struct{ Lists []string }

// A report is what a victim's process says at its end.
type report struct {
	Innocent struct {
		Sent, Failed    int64 // during the attack
		Handled         int64
		Missing         int64 // sent, acknowledged, and never handled
		LongestSilence  time.Duration
		State, Troubles string
	}
	Victim struct {
		State    string
		Reasons  []string // distinct ones, of the status
		Handled  map[string]int64
		Sends    []string // errors of the producer, distinct
		Acked    int64
		Lists    []string      // errors of Bootstrap.Lists
		Runs     time.Duration // from the start until it ran; 0 if it never did
		Routines int           // then
	}
	CPU      time.Duration
	LogBytes int64
	Resident int64 // at most, in bytes
	Stop     time.Duration
	StopErr  string
	Left     []string // goroutines after the end
}

// runChild does the duty of this process, if it has one, and ends it.
func runChild() {
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	var d duty
	err := json.Unmarshal([]byte(text), &d)
	if err == nil {
		var r *report
		if r, err = d.perform(); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

func (d duty) tls() *kafka.TLSConfig {
	if d.CA == "" {
		return nil
	}
	return &kafka.TLSConfig{CAFile: d.CA}
}

func (d duty) sasl() *kafka.SASLConfig {
	if !d.SCRAM {
		return nil
	}
	return &kafka.SASLConfig{Mechanism: kafka.SASLScramSHA256, User: user, Password: password}
}

const user, password = "alice", "secret-of-alice"

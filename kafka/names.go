package kafka

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxTopicBytes = 249 // a broker's limit: a log directory is named after its topic
	maxNameBytes  = 255
)

// validTopic says what is wrong with a topic's name by the brokers' rules, which
// are also those for the instance ID of a static member.
func validTopic(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case name == "." || name == "..":
		return fmt.Errorf("%q is not allowed", name)
	case len(name) > maxTopicBytes:
		return fmt.Errorf("is %d bytes long, at most %d are allowed", len(name), maxTopicBytes)
	}
	for i := range len(name) {
		if !alphanumeric(name[i]) && !strings.ContainsRune("._-", rune(name[i])) {
			return fmt.Errorf("%q has a character outside a-z, A-Z, 0-9, '.', '_' and '-'", name)
		}
	}
	return nil
}

func alphanumeric(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}

// validName says what is wrong with a name that brokers take as it is.
func validName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > maxNameBytes:
		return fmt.Errorf("is %d bytes long, at most %d are allowed", len(name), maxNameBytes)
	}
	return validText(name)
}

// validText says what is wrong with text that is more likely a slip than meant:
// a line break that was read from a file along with a password, say. Its error
// does not show the text.
func validText(s string) error {
	switch {
	case strings.TrimSpace(s) != s:
		return errors.New("begins or ends with white space")
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("has a control character")
	}
	return nil
}

// named checks a name with validName and shows it where it is wrong.
func (p *problems) named(field, name string) {
	err := validName(name)
	switch {
	case err == nil:
	case name == "" || len(name) > maxNameBytes:
		p.add(field, "%v", err)
	default:
		p.add(field, "%s %v", quote(name), err)
	}
}

// optional checks a name that may be left out.
func (p *problems) optional(field, name string) {
	if name != "" {
		p.named(field, name)
	}
}

func (p *problems) jobName(name string) {
	p.named("JobName", name)
	if strings.Contains(name, "/") {
		p.add("JobName", "%s has a '/'", quote(name))
	}
}

func (p *problems) instanceID(id string) {
	if id == "" {
		return
	}
	if err := validTopic(id); err != nil {
		p.add("InstanceID", "%v", err)
	}
}

// topics returns one and all the others as one list.
func (p *problems) topics(one string, others []string) []string {
	if one == "" && len(others) == 0 {
		p.add("Topic", "is empty, and so is Topics")
	}
	var all []string
	seen := map[string]string{} // by name, the field
	take := func(field, name string) {
		p.topic(field, name)
		if first, twice := seen[name]; twice {
			p.add(field, "%s is named by %s already", quote(name), first)
		} else {
			seen[name] = field
		}
		all = append(all, name)
	}
	if one != "" {
		take("Topic", one)
	}
	for i, name := range others {
		take(fmt.Sprintf("Topics[%d]", i), name)
	}
	return all
}

func (p *problems) topic(field, name string) {
	if err := validTopic(name); err != nil {
		p.add(field, "%v", err)
	}
	if name == "__consumer_offsets" || name == "__transaction_state" {
		p.add(field, "%q is internal to Kafka", name)
	}
}

// brokers splits a list of host:port.
func (p *problems) brokers(list string) []string {
	const field = "BootstrapServers"
	if strings.TrimSpace(list) == "" {
		p.add(field, "is empty")
		return nil
	}
	brokers := strings.Split(list, ",")
	seen := map[string]int{}
	for i, b := range brokers {
		b = strings.TrimSpace(b)
		brokers[i] = b
		canonical, err := validBroker(b)
		first, twice := seen[canonical]
		switch {
		case err != nil:
			p.add(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		case twice:
			p.add(fmt.Sprintf("%s[%d]", field, i), "%s is the same as [%d]", quote(b), first)
		default:
			seen[canonical] = i
		}
	}
	return brokers
}

// validBroker returns a form of a broker's address in which equal ones are equal.
func validBroker(addr string) (canonical string, err error) {
	switch {
	case addr == "":
		return "", errors.New("is empty")
	case strings.Contains(addr, "@"): // not shown: what stands before it may be a password
		return "", errors.New("has an '@'; credentials belong in SASL")
	case strings.Contains(addr, "://"):
		return "", fmt.Errorf("%s: want host:port without a scheme", quote(addr))
	}
	host, port, err := splitHostPort(addr)
	if err == nil && !validHost(host) {
		err = errors.New("host is not valid")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote(addr), err)
	}
	return fmt.Sprintf("%s:%d", strings.ToLower(host), port), nil
}

func splitHostPort(addr string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, unsplit(addr, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("port must be 1..65535")
	}
	return host, uint16(n), nil
}

// unsplit says why addr is not host:port, where err is package net's answer.
func unsplit(addr string, err error) error {
	if ip, perr := netip.ParseAddr(addr); perr == nil && ip.Is6() {
		return errors.New("an IPv6 host needs brackets, as in [::1]:9092")
	}
	if reason, ok := errors.AsType[*net.AddrError](err); ok {
		return errors.New(reason.Err) // without the address, which the message has already
	}
	return err
}

// validHost reports whether host is an IP address or could be a DNS name. The
// underscore is not DNS, but container networks have it.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for i := range len(host) {
		if !alphanumeric(host[i]) && !strings.ContainsRune("._-", rune(host[i])) {
			return false
		}
	}
	return host != "" && len(host) <= maxNameBytes
}

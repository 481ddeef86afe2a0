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
		if !legalInTopic[name[i]] {
			return fmt.Errorf("%q has a character outside a-z, A-Z, 0-9, '.', '_' and '-'", name)
		}
	}
	return nil
}

// legalInTopic has the characters of topics. Each send asks for them.
var legalInTopic = func() (legal [256]bool) {
	for b := range legal {
		legal[b] = alphanumeric(byte(b)) || strings.ContainsRune("._-", rune(b))
	}
	return legal
}()

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

// validText says what is wrong with text that is more likely a slip than intended:
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

func (p *problems) jobName(name string) { p.pathElement("JobName", name) }

// producerName fills in the name that was made for a producer without one.
func (p *problems) producerName(name *string, made string) {
	if *name == "" {
		*name = made
	}
	p.pathElement("Name", *name)
}

// pathElement checks a name that also has to serve as one element of a path.
func (p *problems) pathElement(field, name string) {
	p.named(field, name)
	if strings.Contains(name, "/") {
		p.add(field, "%s has a '/'", quote(name))
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
	if one != "" {
		if err := validTopicToRead(one); err != nil {
			p.add("Topic", "%v", err)
		}
		all, seen[one] = append(all, one), "Topic"
	}
	wrong := few{p: p, field: "Topics"}
	for i, name := range others {
		if err := validTopicToRead(name); err != nil {
			wrong.add(i, "%v", err)
		}
		if first, twice := seen[name]; twice {
			wrong.add(i, "%s is named by %s already", quote(name), first)
		} else {
			seen[name] = fmt.Sprintf("Topics[%d]", i)
		}
		all = append(all, name)
	}
	wrong.end()
	return all
}

func validTopicToRead(name string) error {
	if name == "__consumer_offsets" || name == "__transaction_state" {
		return fmt.Errorf("%q is internal to Kafka", name)
	}
	return validTopic(name)
}

// brokers splits a list of host:port. Blanks and line breaks separate as commas
// do: the list often comes from a file.
func (p *problems) brokers(list string) (brokers []string) {
	const field = "BootstrapServers"
	if strings.TrimSpace(list) == "" {
		p.add(field, "is empty")
		return nil
	}
	if i, err := separated(list); err != nil {
		p.add(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		return nil
	}
	wrong := few{p: p, field: field}
	seen := map[string]int{}
	for item := range strings.SplitSeq(list, ",") {
		for _, b := range fields(item) {
			i := len(brokers)
			brokers = append(brokers, b)
			canonical, err := validBroker(b)
			first, twice := seen[canonical]
			switch {
			case err != nil:
				wrong.add(i, "%v", err)
			case twice:
				wrong.add(i, "%s is the same as [%d]", quote(b), first)
			default:
				seen[canonical] = i
			}
		}
	}
	wrong.end()
	return brokers
}

// fields is strings.Fields, but of an item without any that is one empty field.
func fields(item string) []string {
	if all := strings.Fields(item); len(all) > 0 {
		return all
	}
	return []string{""}
}

// separated refuses other separators than commas and white space, and what looks
// like a connection string, and says in which element that is. A connection string
// holds a secret, which can hold a comma too: of the whole list the error shows at
// most what stands in the element before the first of its marks, and nothing where
// an '@' says that this may be a password.
func separated(list string) (element int, err error) {
	i := strings.IndexAny(list, ";=@")
	if i < 0 {
		return 0, nil
	}
	element = strings.Count(list[:i], ",")
	head := quote(strings.TrimSpace(list[strings.LastIndex(list[:i], ",")+1 : i]))
	switch {
	case strings.Contains(list, "@"):
		return element, errors.New("has an '@'; credentials belong in SASL")
	case strings.Contains(list, "="):
		return element, fmt.Errorf("%s is followed by %q: a connection string; want host:port, and credentials in SASL", head, list[i])
	}
	return element, fmt.Errorf("%s is followed by ';'; separate brokers by commas", head)
}

// validBroker returns a form of a broker's address in which equal ones are equal.
func validBroker(addr string) (canonical string, err error) {
	switch {
	case addr == "":
		return "", errors.New("is empty")
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
// underscore is not DNS, but container networks have it. An address's zone is the
// name of a network interface; package netip takes any text for one, line breaks
// too.
func validHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == "" || dnsLike(ip.Zone())
	}
	return dnsLike(host)
}

func dnsLike(name string) bool {
	for i := range len(name) {
		if !legalInTopic[name[i]] {
			return false
		}
	}
	return name != "" && len(name) <= maxNameBytes
}

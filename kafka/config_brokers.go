package kafka

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

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

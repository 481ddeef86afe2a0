package kafka

import (
	"errors"
	"fmt"
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

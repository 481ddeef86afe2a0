package kafka

import (
	"errors"
	"fmt"
	"log/slog"
)

// A FieldError is one thing that is wrong with one field of a configuration.
// Registration reports all of them at once: they are joined as errors.Join does.
type FieldError struct {
	Kind    string // "consumer", "producer" or "redrive"
	Name    string // the consumer's JobName or the producer's ID
	Field   string // such as SessionTimeout, Topics[1] or TLS.CAFile
	Problem string // the value and the rule that it breaks; never a secret
	Err     error  // what the problem comes from, such as a file that cannot be read, or nil
}

// Error returns kind, name, field, problem and cause on one line.
func (e *FieldError) Error() string {
	s := fmt.Sprintf("kafka: %s %s: %s", e.Kind, quote(e.Name), e.Field)
	if e.Problem != "" {
		s += ": " + e.Problem
	}
	if e.Err != nil {
		s += ": " + printableError(e.Err)
	}
	return s
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// problems collects what is wrong with one configuration, and what is right but
// dangerous, in the order of the configuration's fields.
type problems struct {
	kind, name string
	log        *slog.Logger // what is built from the configuration logs here, later
	errs       []error
	warnings   []string
}

func (p *problems) add(field, format string, args ...any) {
	p.wrap(field, nil, format, args...)
}

func (p *problems) wrap(field string, cause error, format string, args ...any) {
	p.errs = append(p.errs, &FieldError{
		Kind: p.kind, Name: p.name, Field: field, Problem: fmt.Sprintf(format, args...), Err: cause,
	})
}

func (p *problems) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// A few adds the first problems of a list's elements, and counts the others: a
// list that is wrong altogether, a separator repeated by accident, say, would
// give an error larger than itself.
type few struct {
	p     *problems
	field string
	n     int
}

const shownOfList = 5

func (f *few) add(i int, format string, args ...any) {
	if f.n++; f.n <= shownOfList {
		f.p.add(fmt.Sprintf("%s[%d]", f.field, i), format, args...)
	}
}

// end says how many there were beside those that were added.
func (f *few) end() {
	if f.n > shownOfList {
		f.p.add(f.field, "%d more elements are wrong", f.n-shownOfList)
	}
}

// report returns all problems. Where there are none it logs the warnings: a
// configuration that is refused has no effect to warn of.
func (p *problems) report(log *slog.Logger) error {
	if len(p.errs) > 0 {
		return errors.Join(p.errs...)
	}
	for _, w := range p.warnings {
		log.Warn("kafka: "+w, p.kind, p.name)
	}
	return nil
}

package kafka

import (
	"errors"
	"fmt"
	"log/slog"
)

// A FieldError is one thing that is wrong with one field of a configuration.
// Registration reports all of them at once: they are joined as errors.Join does.
type FieldError struct {
	Kind    string // "consumer" or "producer"
	Name    string // the consumer's JobName or the producer's ID
	Field   string // such as SessionTimeout, Topics[1] or TLS.CAFile
	Problem string // the value and the rule that it breaks; never a secret
	Err     error  // what the problem comes from, such as a file that can not be read, or nil
}

// Error returns kind, name, field, problem and cause on one line.
func (e *FieldError) Error() string {
	s := fmt.Sprintf("kafka: %s %s: %s", e.Kind, quote(e.Name), e.Field)
	if e.Problem != "" {
		s += ": " + e.Problem
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// problems collects what is wrong with one configuration, and what is right but
// dangerous, in the order of the configuration's fields.
type problems struct {
	kind, name string
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

// quote returns s for a message: escaped, and cut where it is long.
func quote(s string) string {
	const most = 255
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

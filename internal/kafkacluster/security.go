package kafkacluster

import (
	"errors"
	"maps"
	"slices"
)

// Security adds listeners.
type Security struct {
	// Users maps names to passwords.
	Users map[string]string
}

func (s *Security) listeners() []string {
	if s == nil {
		return nil
	}
	return slices.Clone([]string{"SSL", "SASL_SSL", "SASL_PLAINTEXT"})
}

func (s *Security) users() map[string]string {
	if s == nil {
		return nil
	}
	return maps.Clone(s.Users)
}

// Authority issues certificates.
type Authority struct{}

func (c *Cluster) secure() (map[string]string, error) {
	if c.cfg.Security != nil {
		return nil, errors.ErrUnsupported
	}
	return nil, nil
}

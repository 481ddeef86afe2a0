package drivertest

// cut makes the brokers unreachable until heal is called or the case ends.
func (e *env) cut(c Cutter) (heal func()) {
	e.t.Helper()
	heal, err := c.Cut(e.context())
	e.must(err)
	return e.atEnd(heal)
}

// stall makes the brokers silent until heal is called or the case ends.
func (e *env) stall(s Staller) (heal func()) {
	e.t.Helper()
	heal, err := s.Stall(e.context())
	e.must(err)
	return e.atEnd(heal)
}

// silence stops the answers of the brokers with the ability that the harness has: it
// stalls them or, failing that, cuts them off.
func (e *env) silence() (heal func()) {
	e.t.Helper()
	if s, ok := e.h.(Staller); ok {
		return e.stall(s)
	}
	if c, ok := e.h.(Cutter); ok {
		return e.cut(c)
	}
	e.t.Skipf("the harness implements neither drivertest.Staller nor drivertest.Cutter")
	return nil
}

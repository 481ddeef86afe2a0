package drivertest

// cut makes the brokers unreachable until the function that it returns is
// called, or the case ends.
func (e *env) cut(c Cutter) (heal func()) {
	e.t.Helper()
	heal, err := c.Cut(e.context())
	e.must(err)
	return e.atEnd(heal)
}

// stall is the same with silent brokers.
func (e *env) stall(s Staller) (heal func()) {
	e.t.Helper()
	heal, err := s.Stall(e.context())
	e.must(err)
	return e.atEnd(heal)
}

// silence takes the answers away by whatever means the harness has: the brokers
// are silent, or else unreachable.
func (e *env) silence() (heal func()) {
	e.t.Helper()
	if s, ok := e.h.(Staller); ok {
		return e.stall(s)
	}
	if c, ok := e.h.(Cutter); ok {
		return e.cut(c)
	}
	e.t.Skipf("the harness is neither a drivertest.Staller nor a drivertest.Cutter")
	return nil
}

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


package kafka

// mayBegin reports whether the record at hand, or n of them in one call, may be handed out
// though the brake is pulled. What the rate allows is taken.
func (l *lane) mayBegin(n int) bool {
	switch {
	case l.brake.bars(l.ticket != nil):
		return false
	case !l.brake.rated():
	case l.paid:
		if n > 1 {
			l.env.rate.charge(n - 1)
		}
	case l.ticket != nil:
		l.env.rate.charge(n) // a probe waits for no rate
	case !l.env.rate.try(n):
		return false
	}
	return true
}

// allowed waits until the rate allows the record at hand, and reports whether it did at
// once: after a wait everything has to be looked at again. A turn that came because the rate
// was lifted allows nothing: there may be a rate again before the lane goes on. A lane of a
// crew has a place first. Otherwise lanes whose turns have come could pile up while all
// places are taken, and then hand out more than the rate allows.
func (l *lane) allowed() bool {
	if !l.brake.rated() || l.paid || l.ticket != nil || l.i == len(l.run.Records) {
		return true
	}
	pauseChanged := l.brake.pauseChanged()
	if l.brake.waits() {
		return false // the gate is next
	}
	if l.turn == nil {
		l.turn = &rateTicket{brake: l.brake, admit: make(chan struct{}, 1)}
	}
	if l.env.rate.ask(l.turn) {
		l.paid = true
		return true
	}
	select {
	case <-l.turn.admit:
		l.paid = !l.turn.free
		return false
	case <-pauseChanged:
	case <-l.brake.haltC:
	case <-l.failing.kick:
	}
	if !l.env.rate.withdraw(l.turn) {
		<-l.turn.admit
		l.paid = !l.turn.free
	}
	return false
}

// unpay puts back what the rate has allowed and was not used.
func (l *lane) unpay() {
	if l.paid {
		l.paid = false
		l.env.rate.refund(1)
	}
}

// fresh returns how many records that have not been handed out lanes may take. If the rate
// allows none now, the crew waits for its turn: without a lane, and with one ticket for all
// of its records. Called under the intake's mutex, as what follows but granted.
func (c *crew) fresh() int {
	n := c.ready()
	if n == 0 || c.taken >= c.most || !c.brake.rated() {
		return n
	}
	if most := c.admitted + c.env.rate.room(); most > 0 {
		return min(n, most)
	}
	if c.coming == 0 || c.env.places == nil { // else that lane waits for a place, and asks when it has one
		c.askRate()
	}
	return c.admitted
}

// payable reports whether the rate allows a record now.
func (c *crew) payable() bool {
	return !c.brake.rated() || c.admitted > 0 || c.env.rate.room() > 0
}

// pay takes a record out of the rate's bucket for a lane that is about to take one.
func (c *crew) pay() bool {
	switch {
	case c.admitted > 0:
		c.admitted--
		return true
	case !c.brake.rated() || c.env.rate.try(1):
		return true
	}
	c.askRate()
	return false
}

// askRate lets the crew wait for its turn, each time with another ticket. Otherwise this
// could happen: the timer serves the ticket, a pause begins and ends before granted is
// called, and the crew asks again. The turn of the first ticket would be taken for that of
// the second, which would then wait for its turn when the claim has ended.
func (c *crew) askRate() {
	if c.rateTurn != nil {
		return
	}
	t := &rateTicket{brake: c.brake, crew: c}
	if c.env.rate.ask(t) {
		c.admitted++
	} else {
		c.rateTurn = t
	}
}

// unaskRate takes that back, and what was allowed and not used.
func (c *crew) unaskRate() {
	if c.rateTurn != nil {
		c.env.rate.withdraw(c.rateTurn) // if it has just been served, granted finds that it is not asked for
		c.rateTurn = nil
	}
	c.unadmit()
}

// unadmit puts back what was allowed and is not used at once. Otherwise this could happen:
// all places of the consumer are taken for ten seconds, the rate allows each partition a
// record meanwhile, and then all of these are handed out together.
func (c *crew) unadmit() {
	if c.admitted > 0 {
		c.env.rate.refund(c.admitted)
		c.admitted = 0
	}
}

// granted lets a lane take a record that the rate allows, if the crew still waits with the
// ticket that has got its turn.
func (c *crew) granted(t *rateTicket) {
	c.intake.mu.Lock()
	asked := c.rateTurn == t
	if asked {
		c.rateTurn = nil
	}
	wanted := asked && !c.brake.halted() && !c.still()
	var seats *seat
	if wanted {
		if !t.free {
			c.admitted++
		}
		if seats = c.staff(); seats == nil && c.coming > 0 && c.env.places != nil {
			c.unadmit() // a lane waits for a place, and asks when it has one
		}
	}
	c.intake.mu.Unlock()
	if !wanted && !t.free {
		c.env.rate.refund(1)
	}
	c.begin(seats)
}

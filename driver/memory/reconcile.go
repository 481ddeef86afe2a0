package memory

import "slices"

// reconcile goes through one membership of a group of the ConsumerProtocol, or continues
// it, and returns the reason why it is interrupted.
func (r *run) reconcile() error {
	if err := r.enter(); err != nil {
		return err
	}
	for {
		if err := r.until(r.c.place.beat); err != nil && err != errSought {
			return err
		}
		if err := r.adopt(); err != nil {
			return err
		}
	}
}

// enter waits until the consumer is a member. While the group has members of another
// protocol, or another member has the instance ID, it asks again whenever the group has
// changed.
func (r *run) enter() error {
	reported := ""
	return r.watch.until(func() (bool, error) {
		if r.c.place.entered() {
			return true, nil
		}
		if !r.c.link.up() {
			return false, nil
		}
		err := r.c.place.enter(r.c)
		switch why := code(err); why {
		case "":
			return true, nil
		case "GROUP_ID_NOT_FOUND", "UNRELEASED_INSTANCE_ID":
			if why != reported {
				r.watch.trouble, reported = err, why
			}
			return false, nil
		}
		return false, err
	})
}

// entered reports whether the consumer is a member, as far as it knows.
func (m *membership) entered() bool { return m.id != "" && !m.away }

// enter makes c a member.
func (m *membership) enter(c *consumer) error {
	if m.own == "" {
		m.own = m.g.b.memberID(c.cfg.ClientID)
	}
	if _, err := m.g.enter(c, m.own); err != nil {
		return err
	}
	m.id, m.generation, m.fresh, m.away = m.own, 0, true, false
	m.link.join()
	return nil
}

// beat sends a heartbeat and takes the answer. It reports whether Run has something to do:
// announce the membership or an epoch, take claims or give them up.
func (m *membership) beat() (bool, error) {
	if !m.link.up() {
		return false, nil
	}
	known, err := m.member()
	if err == nil {
		err = m.g.beat(known, m.generation, m.claims.partitions())
	}
	if err != nil {
		return false, err
	}
	another := m.generation != known.generation
	m.generation, m.previous = known.generation, slices.Clone(known.assignment)
	if another {
		m.topics.remember()
	}
	return m.fresh || another || m.unsettled(), nil
}

// unsettled reports whether the claims differ from the assignment.
func (m *membership) unsettled() bool {
	held := m.claims.partitions()
	return slices.ContainsFunc(held, func(tp TopicPartition) bool { return !slices.Contains(m.previous, tp) }) ||
		slices.ContainsFunc(m.previous, func(tp TopicPartition) bool {
			return m.g.b.log(tp) != nil && !slices.Contains(held, tp)
		})
}

// announce reports whether the Handler has to learn of an assignment that adds n claims,
// and that it knows then of the membership. With the ClassicProtocol each generation is
// another membership.
func (m *membership) announce(n int) bool {
	m.g.b.mu.Lock()
	defer m.g.b.mu.Unlock()
	fresh := m.fresh
	m.fresh = false
	return n > 0 || fresh || !m.byEpochs
}

// current returns the coordinator's answer to the generation or epoch of a heartbeat.
func (m *membership) current(known *member) error {
	switch {
	case m.byEpochs:
		return m.g.checkEpoch(known, m.generation)
	case !m.joining && m.generation != m.g.generation:
		return errIllegalGeneration(m.g, m.generation)
	}
	return nil
}

// leaveEpochs takes a member of the ConsumerProtocol out of its group. A static member
// keeps its place until its session ends.
func (m *membership) leaveEpochs(known *member) {
	if m.instance == "" {
		m.g.remove(known)
		return
	}
	m.g.release(known)
	m.link.severed = true
	m.g.linkChanged(known)
}

package drivertest

import (
	"context"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
)

func metadataChecks() []check {
	return []check{
		{"MetadataIsKept", "Metadata of a mark is stored beside Offset, and is the Metadata of the next claim that starts there. A driver must pass it as it is.", metadataIsKept},
		{"MetadataOutlivesAKilledMember", "Metadata of a mark is durable with its Offset when Commit returns nil, also if the member is killed.", metadataOutlivesAKilledMember},
		{"MetadataAtThePositionIsSent", "A mark at Start, or at what the claim has committed, is sent if its Metadata differs from what was last acknowledged or read there.", metadataAtThePositionIsSent},
		{"SameMetadataIsNotSent", "A mark at Start, or at what the claim has committed, succeeds without a request if its Metadata is what was last acknowledged or read there.", sameMetadataIsNotSent},
		{"MetadataBelowThePositionIsNotSent", "A mark below Start, or below what the claim has committed, succeeds and changes nothing, whatever its Metadata is.", metadataBelowThePositionIsNotSent},
		{"ForeignMetadataIsPassed", "Metadata of a claim may be another program's, and a driver must pass it as it is.", foreignMetadataIsPassed},
		{"EndIsKnownBesideMetadata", "End is the end of the log when the claim was made. It may be unknown where Metadata is empty.", endIsKnownBesideMetadata},
		{"TooLargeMetadataIsLeftOut", "If a broker refuses a mark with OFFSET_METADATA_TOO_LARGE, Commit must send the same mark once more without Metadata, and the Consumer must send no Metadata from then on. The driver must report the refusal to h.Error once.", tooLargeMetadataIsLeftOut},
	}
}

// wantPlace reports what a group has committed for a partition if it is something else.
func (e *env) wantPlace(group, topic string, partition int32, offset int64, metadata string) {
	e.t.Helper()
	e.wantCommitted(group, topic, partition, offset)
	got, err := ability[MetadataReader](e).CommittedMetadata(e.context(), group, topic, partition)
	e.must(err)
	if got != metadata {
		e.errorf("the metadata of partition %d at %d is %q, want %q", partition, offset, got, metadata)
	}
}

// wantClaim reports a claim that starts elsewhere or with other metadata.
func (e *env) wantClaim(c *driver.Claim, start int64, metadata string) {
	e.t.Helper()
	if c.Start != start || c.Metadata != metadata {
		e.errorf("the claim of partition %d starts at %d with metadata %q, want %d and %q", c.Partition, c.Start, c.Metadata, start, metadata)
	}
}

// mark commits one mark with metadata, which must succeed.
func (m *member) mark(c *driver.Claim, offset int64, metadata string) {
	m.e.t.Helper()
	if err := m.tryCommit(m.e.context(), driver.Mark{Claim: c, Offset: offset, Metadata: metadata}); err != nil {
		m.e.errorf("%s: Commit of partition %d at %d with metadata %q: %v", m.name, c.Partition, offset, metadata, err)
	}
}

// tenRecords returns the configuration of a new group whose topic has ten records per
// partition.
func tenRecords(e *env, partitions int32) driver.ConsumerConfig {
	e.t.Helper()
	topic := e.topic(partitions)
	for p := range partitions {
		e.send(topic, p, numbered("v", 10)...)
	}
	return e.consumerConfig(e.unique("group"), topic)
}

// joinTen is join for a member that has got the ten records of each partition from start
// on.
func joinTen(e *env, cfg driver.ConsumerConfig, partitions int, start int64) (*member, []*driver.Claim) {
	e.t.Helper()
	m := e.join(cfg)
	claims := m.waitClaims(partitions)
	for _, c := range claims {
		m.waitRecords(c, 10-int(start))
	}
	return m, claims
}

func metadataIsKept(e *env) {
	ability[MetadataReader](e)
	cfg := tenRecords(e, 3)
	a, claims := joinTen(e, cfg, 3, 0)
	e.wantClaim(claims[0], claims[0].Start, "")
	const text = "mark gk1.AQID-_ \"é\" 世界"
	err := a.tryCommit(e.context(),
		driver.Mark{Claim: claims[0], Offset: 4, Metadata: text},
		driver.Mark{Claim: claims[1], Offset: 4},
		driver.Mark{Claim: claims[2], Offset: 4, Metadata: "mark 2"})
	if err != nil {
		e.fatalf("Commit: %v", err)
	}
	a.mark(claims[2], 6, "mark 3")
	e.wantPlace(cfg.Group, cfg.Topics[0], 0, 4, text)
	a.stop()

	b := e.join(cfg)
	claims = b.waitClaims(3)
	e.wantClaim(claims[0], 4, text)
	e.wantClaim(claims[1], 4, "")
	e.wantClaim(claims[2], 6, "mark 3")
}

func metadataOutlivesAKilledMember(e *env) {
	ability[MetadataReader](e)
	cfg := tenRecords(e, 1)
	a, claims := joinTen(e, cfg, 1, 0)
	a.mark(claims[0], 4, "mark 1")
	a.mark(claims[0], 4, "mark 2")
	a.die()

	b := e.join(cfg)
	e.wantClaim(b.waitClaims(1)[0], 4, "mark 2")
}

func metadataAtThePositionIsSent(e *env) {
	ability[MetadataReader](e)
	cfg := tenRecords(e, 1)
	want := func(offset int64, metadata string) {
		e.t.Helper()
		e.wantPlace(cfg.Group, cfg.Topics[0], 0, offset, metadata)
	}
	a, claims := joinTen(e, cfg, 1, 0)
	for _, metadata := range []string{"mark 1", "mark 2", "", "mark 3"} {
		a.mark(claims[0], 4, metadata)
		want(4, metadata)
	}
	a.mark(claims[0], 6, "mark 3")
	want(6, "mark 3")
	a.stop()

	b := e.join(cfg)
	claims = b.waitClaims(1)
	b.mark(claims[0], 6, "mark 4")
	want(6, "mark 4")
	b.mark(claims[0], 6, "mark 3")
	want(6, "mark 3")
}

// sameMetadataIsNotSent commits while there are no brokers: a mark that needs one would
// not succeed.
func sameMetadataIsNotSent(e *env) {
	ability[MetadataReader](e)
	cutter := ability[Cutter](e)
	cfg := tenRecords(e, 1)
	a, claims := joinTen(e, cfg, 1, 0)
	a.mark(claims[0], 4, "mark 1")
	a.stop()

	b := e.join(cfg)
	claims = b.waitClaims(1)
	b.waitRecords(claims[0], 6)
	markWithoutBrokers(e, cutter, b, driver.Mark{Claim: claims[0], Offset: 4, Metadata: "mark 1"}, "read")
	b.mark(claims[0], 4, "mark 2")
	markWithoutBrokers(e, cutter, b, driver.Mark{Claim: claims[0], Offset: 4, Metadata: "mark 2"}, "acknowledged")
}

// markWithoutBrokers commits a mark that must succeed without a request.
func markWithoutBrokers(e *env, cutter Cutter, m *member, mark driver.Mark, how string) {
	e.t.Helper()
	heal := e.cut(cutter)
	ctx, cancel := context.WithTimeout(e.context(), e.Grace)
	defer cancel()
	if err := m.tryCommit(ctx, mark); err != nil {
		e.errorf("without brokers, Commit at the position with the metadata that was %s there returned %v, want nil", how, err)
	}
	heal()
}

func metadataBelowThePositionIsNotSent(e *env) {
	ability[MetadataReader](e)
	cfg := tenRecords(e, 1)
	a, claims := joinTen(e, cfg, 1, 0)
	a.mark(claims[0], 6, "mark 1")
	a.mark(claims[0], 5, "mark 2")
	e.wantPlace(cfg.Group, cfg.Topics[0], 0, 6, "mark 1")
	a.stop()

	b := e.join(cfg)
	b.mark(b.waitClaims(1)[0], 4, "mark 3")
	e.wantPlace(cfg.Group, cfg.Topics[0], 0, 6, "mark 1")
}

func foreignMetadataIsPassed(e *env) {
	setter := ability[PositionSetter](e)
	cfg := tenRecords(e, 3)
	foreign := []string{
		"AgAAAZp1fXk2AAAAAA==", // Kafka Streams
		"committed by \x01\x7f another program: \u2603",
		"",
	}
	for p, metadata := range foreign {
		e.must(setter.SetCommitted(e.context(), cfg.Group, cfg.Topics[0], int32(p), 5, metadata))
	}
	a := e.join(cfg)
	for p, c := range a.waitClaims(3) {
		e.wantClaim(c, 5, foreign[p])
	}
}

func endIsKnownBesideMetadata(e *env) {
	ability[MetadataReader](e)
	cfg := tenRecords(e, 2)
	a, claims := joinTen(e, cfg, 2, 0)
	a.mark(claims[0], 4, "mark 1")
	a.mark(claims[1], 10, "mark 2")
	a.stop()
	e.send(cfg.Topics[0], 1, numbered("w", 3)...)

	b := e.join(cfg)
	for p, c := range b.waitClaims(2) {
		if want := []int64{10, 13}[p]; c.End != want {
			e.errorf("the End of the claim of partition %d is %d, want %d", p, c.End, want)
		}
	}
}

// largeMetadata is the length of metadata that the brokers of a harness refuse.
const largeMetadata = 5000

func tooLargeMetadataIsLeftOut(e *env) {
	ability[MetadataReader](e)
	cfg := tenRecords(e, 2)
	a, claims := joinTen(e, cfg, 2, 0)
	want := func(partition int32, offset int64, metadata string) {
		e.t.Helper()
		e.wantPlace(cfg.Group, cfg.Topics[0], partition, offset, metadata)
	}
	a.mark(claims[0], 3, "mark 1")
	want(0, 3, "mark 1")
	a.mark(claims[0], 4, strings.Repeat("m", largeMetadata))
	want(0, 4, "")
	a.mark(claims[0], 6, "mark 2")
	want(0, 6, "")
	a.mark(claims[1], 6, strings.Repeat("m", largeMetadata))
	want(1, 6, "")
	a.await("a report of the refusal", func() bool { return a.refusedMetadata() > 0 })
	e.quiet()
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := a.refusedMetadata(); n != 1 {
		e.errorf("Handler.Error got %d reports of metadata that is too large, want 1", n)
	}
}

// refusedMetadata counts the reports of metadata that was too large.
func (m *member) refusedMetadata() (n int) {
	for _, err := range m.errs {
		if codeOf(err) == "OFFSET_METADATA_TOO_LARGE" {
			n++
		}
	}
	return n
}

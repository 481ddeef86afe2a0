//go:build unix

package main

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/internal/hostile/wire"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// A row is one attack, and what is right.
type row struct {
	id, what string
	short    bool
	real     bool // needs a real Kafka
	set      func(*stage) error
	setReal  func(*stage, *kafkacluster.Cluster) error

	bears     time.Duration // how long; default 6 s
	consumer  string        // what its reasons must contain: alternatives by |
	producer  string        // the same of the producer's errors
	state     string        // the state at the end; alternatives by |; empty is any
	handled   map[string]int64
	rate      float64 // requests and connections per second at the hostile side; default 50
	resident  int64   // MiB; default 1024
	cpu       time.Duration
	log       int64 // bytes of log; default 200 kB
	wants     func(*report) []string
	noTrouble bool // of the consumer: nothing of this concerns it
}

const damaged = "CORRUPT_MESSAGE|INVALID_RECORD|RECORD_TOO_LARGE"

var rest = map[string]int64{"t/2": 100} // what no attack concerns

// table returns all rows.
func table() []row {
	rows := []row{
		{id: "H1", what: "a batch of zstd that inflates to 1 GiB", set: fetch0(func() []byte { return bomb() }),
			consumer: "RECORD_TOO_LARGE", state: "running", handled: rest},
		{id: "H1", what: "the same, on a real Kafka", real: true, setReal: stored(bomb),
			consumer: "RECORD_TOO_LARGE", state: "running", handled: rest},
	}
	rows = append(rows, ports()...)
	rows = append(rows,
		row{id: "H3", what: "JoinGroup answered MEMBER_ID_REQUIRED, forever", set: join(79), consumer: "JOIN_REFUSED"},
		row{id: "H3", what: "JoinGroup answered UNKNOWN_MEMBER_ID, forever", set: join(25), consumer: "JOIN_REFUSED"},
		row{id: "H4", what: "throttle_time_ms = 2³¹-1 in every answer", short: true, bears: 12 * time.Second,
			set: func(s *stage) error {
				s.Producer = true
				return s.meddled(throttle)
			}, consumer: "THROTTLE_TIME_TOO_LONG"},
		row{id: "H5", what: "10 million headers in one record, gzip", set: fetch0(packedHeaders),
			consumer: "RECORD_TOO_LARGE", state: "running", handled: rest},
		row{id: "H5", what: "10 million headers in one record, on two partitions", set: fetchAll(plainHeaders),
			consumer: "RECORD_TOO_LARGE", state: "running", handled: rest},
		row{id: "H5", what: "10 million headers, gzip, on a real Kafka", real: true, setReal: stored(packedHeaders),
			consumer: "RECORD_TOO_LARGE", state: "running", handled: rest},
		row{id: "H6", what: "a fetch answer of 96 MiB that claims 99.6 million topics", short: true, set: manyTopics,
			consumer: "INVALID_RESPONSE"},
	)
	rows = append(rows, lies()...)
	rows = append(rows, peers()...)
	return rows
}

// ports are what answers on a wrong port.
func ports() (rows []row) {
	length := func(n uint32) []byte { return append(binary.BigEndian.AppendUint32(nil, n), 0, 0, 0, 0) }
	for i, p := range []struct {
		name   string
		answer []byte
	}{
		{"plain HTTP", []byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")},
		{"a length of -1", length(math.MaxUint32)},
		{"a length of 0", length(0)},
		{"a length of 2 GiB", length(math.MaxInt32)},
		{"1 KiB of garbage", []byte(strings.Repeat("\xa5\x17\x00\xff", 256))},
	} {
		rows = append(rows, row{
			id: "H2", what: "a port answers with " + p.name, short: i < 2,
			set: func(s *stage) error {
				s.Producer = true
				return s.port(says(p.answer))
			},
			consumer: "INVALID_RESPONSE", producer: "INVALID_RESPONSE", state: "backing off|starting|disabled", resident: 80,
		})
	}
	return rows
}

// lies are batches that are not what they say.
func lies() []row {
	two := append(record(0, []byte("a"), 0, nil), record(1, []byte("b"), 0, nil)...)
	four := append(append([]byte{}, two...), append(record(2, []byte("c"), 0, nil), record(3, []byte("d"), 0, nil)...)...)
	shuffled := append(append([]byte{}, record(2, []byte("c"), 0, nil)...), two...)
	long := binary.AppendVarint(nil, 1<<30)
	row7 := func(what string, b batch) row {
		return row{id: "H7", what: what, set: fetch0(b.bytes), consumer: damaged, state: "running", handled: rest, bears: 45 * time.Second}
	}
	return []row{
		row7("a batch cut short, with the right checksum", batch{count: 5, lastDelta: 4, records: four[:len(four)-5]}),
		row7("a batch with a record of 2³⁰ bytes", batch{count: 3, lastDelta: 2, records: append(append([]byte{}, two...), long...)}),
		row7("a batch with 2⁶² headers", batch{count: 1, records: record(0, []byte("v"), 1<<62, []byte{0, 1})}),
		row7("a batch of 2³¹-1 records", batch{count: math.MaxInt32, lastDelta: math.MaxInt32 - 1, records: two}),
		{id: "H11", what: "a record at offset 2⁶³-1", set: fetch0(batch{first: math.MaxInt64, count: 1, records: record(0, []byte("v"), 0, nil)}.bytes),
			consumer: damaged + "|INVALID_RESPONSE", state: "running", handled: rest, bears: 20 * time.Second, wants: none("t/0")},
		{id: "H11", what: "records out of order in a batch", set: fetch0(batch{count: 3, lastDelta: 2, records: shuffled}.bytes),
			consumer: damaged + "|INVALID_RESPONSE", state: "running", handled: rest, bears: 20 * time.Second, wants: none("t/0")},
	}
}

// none wants that nothing of a partition has been handled.
func none(partition string) func(*report) []string {
	return func(r *report) []string {
		if n := r.Victim.Handled[partition]; n > 0 {
			return []string{fmt.Sprintf("%d records of %s handled", n, partition)}
		}
		return nil
	}
}

// fetch0 answers every fetch of partition 0 with records.
func fetch0(records func() []byte) func(*stage) error {
	return func(s *stage) error {
		return s.fetched(func(partition int32, _ int64) []byte {
			if partition == 0 {
				return records()
			}
			return nil
		})
	}
}

// fetchAll answers every fetch of partitions 0 and 1 with records.
func fetchAll(records func() []byte) func(*stage) error {
	return func(s *stage) error {
		return s.fetched(func(partition int32, _ int64) []byte {
			if partition < 2 {
				return records()
			}
			return nil
		})
	}
}

func join(code int16) func(*stage) error {
	return func(s *stage) error {
		return s.meddled(func(x *wire.Exchange) {
			if a, ok := x.Answer.(*kmsg.JoinGroupResponse); ok {
				a.ErrorCode, a.MemberID = code, "m"
			}
		})
	}
}

func manyTopics(s *stage) error {
	return s.meddled(func(x *wire.Exchange) {
		a, ok := x.Answer.(*kmsg.FetchResponse)
		if !ok {
			return
		}
		a.Topics = nil
		frame := x.Frame(a.AppendTo(nil))
		const topics = 99_600_000
		if a.IsFlexible() {
			frame = binary.AppendUvarint(frame[:len(frame)-2], topics+1)
		} else {
			frame = binary.BigEndian.AppendUint32(frame[:len(frame)-4], topics)
		}
		x.Raw = append(frame, make([]byte, 96<<20)...)
		binary.BigEndian.PutUint32(x.Raw, uint32(len(x.Raw)-4))
	})
}

// peers are attacks around the group, the authentication and names.
func peers() []row {
	return []row{
		{id: "H8", what: "another member subscribes to a topic that does not exist, and we lead",
			set: stranger("there-is-none"), state: "running", noTrouble: true, bears: 10 * time.Second},
		{id: "H8", what: "another member subscribes to an illegal name, and we lead",
			set: stranger("no/such topic\n"), state: "running", noTrouble: true, bears: 10 * time.Second},
		{id: "H9", what: "a TLS port whose first three answers are not TLS", short: true, set: notTLS,
			consumer: "TLS_HANDSHAKE_FAILED", state: "running"},
		{id: "H10", what: "SCRAM with 10,000,000 iterations", short: true, set: rounds,
			consumer: "SASL_AUTHENTICATION_FAILED", producer: "SASL_AUTHENTICATION_FAILED", cpu: 3 * time.Second},
		{id: "H11", what: "InitProducerID answers -1", short: true, bears: 8 * time.Second, set: func(s *stage) error {
			s.Producer = true
			return s.meddled(func(x *wire.Exchange) {
				if a, ok := x.Answer.(*kmsg.InitProducerIDResponse); ok {
					a.ProducerID, a.ProducerEpoch = -1, -1
				}
			})
		}, noTrouble: true, producer: "INVALID_RESPONSE|deadline exceeded", wants: func(r *report) []string {
			if r.Victim.Acked > 0 {
				return []string{fmt.Sprintf("%d messages sent without idempotence", r.Victim.Acked)}
			}
			return nil
		}},
		{id: "H12", what: "brokers whose host names have 1 MB", short: true, set: hosts(strings.Repeat("h", 1<<20)), consumer: "INVALID_RESPONSE"},
		{id: "H12", what: "brokers whose host names have 30 kB and a line feed", set: hosts("h\n" + strings.Repeat("h", 30_000)), consumer: "CONNECTION_FAILED"},
		{id: "H12", what: "a line feed in a bootstrap zone; a million commas", set: func(s *stage) error {
			s.Lists = []string{"zone", "commas"}
			return s.meddled(func(*wire.Exchange) {})
		}, noTrouble: true, state: "running", wants: shortTexts},
		{id: "H13", what: "100,000 partitions: start", bears: 2 * time.Minute, rate: 20_000, resident: 2048, set: func(s *stage) error {
			c, err := s.cluster(100_000)
			if err != nil {
				return err
			}
			s.Running, s.Session = true, 30*time.Second
			return s.before(c.ListenAddrs()[0], func(*wire.Exchange) {})
		}, noTrouble: true, wants: func(r *report) []string {
			if r.Victim.Runs == 0 {
				return []string{"did not run within two minutes"}
			}
			return nil
		}},
	}
}

// stranger adds a member to the group that the victim leads.
func stranger(topic string) func(*stage) error {
	return func(s *stage) error {
		meta := kmsg.ConsumerMemberMetadata{Topics: []string{topic}}
		return s.meddled(func(x *wire.Exchange) {
			a, ok := x.Answer.(*kmsg.JoinGroupResponse)
			if !ok || a.ErrorCode != 0 || a.LeaderID != a.MemberID {
				return
			}
			m := kmsg.NewJoinGroupResponseMember()
			m.MemberID, m.ProtocolMetadata = "stranger", meta.AppendTo(nil)
			a.Members = append(a.Members, m)
		})
	}
}

func notTLS(s *stage) error {
	authority, err := kafkacluster.NewAuthority()
	if err != nil {
		return err
	}
	cert, key, err := authority.Issue(kafkacluster.Certificate{CommonName: "broker", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(authority.PEM()); block == nil {
		return fmt.Errorf("no PEM: %q", authority.PEM())
	}
	var addr atomic.Pointer[string]
	c, err := s.cluster(1, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	if err != nil {
		return err
	}
	broker := c.ListenAddrs()[0]
	addr.Store(&broker)
	s.CA = string(authority.PEM())
	return s.port(func(n int64, c net.Conn) {
		if n <= 3 {
			says([]byte("HTTP/1.1 503 Service Unavailable\r\n\r\n"))(n, c)
			return
		}
		relay(c, *addr.Load())
	})
}

func rounds(s *stage) error {
	s.Producer, s.SCRAM = true, true
	c, err := s.cluster(1, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", user, password))
	if err != nil {
		return err
	}
	return s.before(c.ListenAddrs()[0], func(x *wire.Exchange) {
		a, ok := x.Answer.(*kmsg.SASLAuthenticateResponse)
		if !ok {
			return
		}
		if first, _, ok := strings.Cut(string(a.SASLAuthBytes), ",i="); ok {
			a.SASLAuthBytes = []byte(first + ",i=10000000")
		}
	})
}

func hosts(name string) func(*stage) error {
	return func(s *stage) error {
		return s.meddled(func(x *wire.Exchange) {
			if a, ok := x.Answer.(*kmsg.MetadataResponse); ok {
				for i := range a.Brokers {
					a.Brokers[i].Host = name
				}
			}
		})
	}
}

func shortTexts(r *report) (wrong []string) {
	for _, text := range r.Victim.Lists {
		var took, bytes, lines = "", 0, 0
		if _, err := fmt.Sscanf(strings.ReplaceAll(text, ",", ""), "%s %d bytes %d lines:", &took, &bytes, &lines); err != nil {
			wrong = append(wrong, "a list of brokers: "+text)
			continue
		}
		if d, err := time.ParseDuration(took); err != nil || d > time.Second || bytes > 4096 || lines > 10 {
			wrong = append(wrong, "a list of brokers: "+text)
		}
	}
	return wrong
}

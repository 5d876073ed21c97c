package approvals_test

import (
	"crypto/sha256"
	"testing"

	"countersign/approvals"
)

// tape takes its choices from bytes, two a choice, and then always the first.
type tape struct {
	t    *testing.T
	data []byte
}

func (f *tape) pick(n int) int {
	if len(f.data) < 2 {
		return 0
	}
	v := int(f.data[0])<<8 | int(f.data[1])
	f.data = f.data[2:]
	return v % n
}

func (f *tape) fatalf(format string, args ...any) {
	f.t.Helper()
	f.t.Fatalf(format, args...)
}

// seed is a tape of some length that looks random and never changes.
func seed(n byte, blocks int) []byte {
	var out []byte
	sum := sha256.Sum256([]byte{n})
	for range blocks {
		out = append(out, sum[:]...)
		sum = sha256.Sum256(sum[:])
	}
	return out
}

func FuzzVerbSequence(f *testing.F) {
	for n := range byte(64) {
		f.Add(seed(n, 4+int(n)/2))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &life{chooser: &tape{t: t, data: data}}
		if l.open(true) {
			l.run(min(len(data)/10, 200))
		}
	})
}

// FuzzTicketID: what is accepted as an id is spelled as an id would be.
func FuzzTicketID(f *testing.F) {
	f.Add(ticketID)
	f.Add("tkt_")
	f.Add("tkt_01kmkc3e8q2h5v7n4c6d0x1r\r\n")
	f.Fuzz(func(t *testing.T, id string) {
		if !approvals.ValidTicketID(id) {
			return
		}
		for _, r := range id[4:] {
			if (r < '0' || r > '9') && (r < 'a' || r > 'z') {
				t.Fatalf("%q is valid", id)
			}
		}
	})
}

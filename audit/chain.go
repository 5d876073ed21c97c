package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"

	"countersign/approvals"
)

// Entry is an event with the bytes that prove it, as one row of audit_events.
type Entry struct {
	Event approvals.Event
	Canon []byte
	Prev  Hash
	Hash  Hash
}

// Genesis is what the first event of a ticket binds itself to.
func Genesis(ticketID string) Hash {
	return sha256.Sum256([]byte("countersign-audit-chain/v1" + ticketID))
}

// Leaf is the hash of a canonical form (the leaf hash of RFC 6962, so that the chain
// and a later Merkle tree share one family of hashes).
func Leaf(canon []byte) Hash {
	return sha256.Sum256(append([]byte{0x00}, canon...))
}

// Seal gives an event its bytes and its hash after prev.
func Seal(e approvals.Event, prev Hash) (Entry, error) {
	canon, err := Canon(e, prev)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Event: e, Canon: canon, Prev: prev, Hash: Leaf(canon)}, nil
}

// Class names what is wrong with a chain.
type Class string

// What VerifyChain finds.
const (
	ClassCanon    Class = "canon_unreadable"
	ClassHash     Class = "hash_mismatch"
	ClassLink     Class = "chain_broken"
	ClassSequence Class = "sequence_gap"
	ClassColumns  Class = "columns_edited"
	ClassReplay   Class = "illegal_transition"
)

// Fault is the first thing wrong with the trail of a ticket.
type Fault struct {
	TicketID string
	Seq      int64
	Class    Class
	Detail   string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("audit of %s, event %d: %s: %s", f.TicketID, f.Seq, f.Class, f.Detail)
}

// VerifyChain checks the whole trail of one ticket, in order of seq: every hash over
// its bytes, every link, every number, the columns against the bytes, and that each
// event was a legal step from the one before. It returns a *Fault for the first thing
// that is wrong and nil when nothing is. An empty trail is a fault.
func VerifyChain(ticketID string, entries []Entry) error {
	fault := func(seq int64, class Class, format string, args ...any) error {
		return &Fault{TicketID: ticketID, Seq: seq, Class: class, Detail: fmt.Sprintf(format, args...)}
	}
	if len(entries) == 0 {
		return fault(1, ClassSequence, "no events")
	}
	prev, state := Genesis(ticketID), approvals.State("")
	for i, entry := range entries {
		want := int64(i + 1)
		e, bound, err := Parse(entry.Canon)
		switch {
		case err != nil:
			return fault(want, ClassCanon, "%v", err)
		case Leaf(entry.Canon) != entry.Hash:
			return fault(want, ClassHash, "the stored hash is not that of the bytes")
		case bound != prev || entry.Prev != prev:
			return fault(want, ClassLink, "the event does not follow the one before it")
		case e.Seq != want || e.TicketID != ticketID:
			return fault(want, ClassSequence, "the bytes speak of event %d of %s", e.Seq, e.TicketID)
		case !sameEvent(e, entry.Event):
			return fault(want, ClassColumns, "the columns say something else than the bytes")
		case i > 0 && !approvals.Legal(state, e.State):
			return fault(want, ClassReplay, "%s cannot become %s", state, e.State)
		}
		prev, state = entry.Hash, e.State
	}
	return nil
}

// sameEvent compares by meaning: the columns went through the database's JSON and
// timestamps.
func sameEvent(a, b approvals.Event) bool {
	ca, errA := Canon(a, Hash{})
	cb, errB := Canon(b, Hash{})
	if errA != nil || errB != nil {
		return reflect.DeepEqual(a, b)
	}
	return bytes.Equal(ca, cb)
}

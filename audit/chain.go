package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"countersign/approvals"
)

// Entry is an event with the bytes that prove it, as one row of audit_events.
type Entry struct {
	Event approvals.Event
	// Data is the data column, as sealed or as read; nil when the entry comes from elsewhere.
	// Event.Data cannot stand for it: decoding drops what it does not know.
	Data  json.RawMessage
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
	canon, data, err := encode(e, prev)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Event: e, Data: data, Canon: canon, Prev: prev, Hash: Leaf(canon)}, nil
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
		case e.Seq != want || e.TicketID != ticketID:
			return fault(want, ClassSequence, "the bytes speak of event %d of %s", e.Seq, e.TicketID)
		case bound != prev || entry.Prev != prev:
			return fault(want, ClassLink, "the event does not follow the one before it")
		case !sameEvent(e, entry.Event) || !sameData(e.Data, entry.Data):
			return fault(want, ClassColumns, "the columns say something else than the bytes")
		case !legal(state, e):
			return fault(want, ClassReplay, "%s cannot take a ticket from %q to %q", e.Type, state, e.State)
		}
		prev, state = entry.Hash, e.State
	}
	return nil
}

// moves holds the types of event that move a ticket, and where to. All others leave it
// in the state it was in.
var moves = map[approvals.EventType][]approvals.State{
	approvals.EventCreated:        {approvals.Pending},
	approvals.EventStageCompleted: {approvals.Pending},
	approvals.EventApproved:       {approvals.Approved},
	approvals.EventDenied:         {approvals.Denied},
	approvals.EventQuestionAsked:  {approvals.NeedsInfo},
	approvals.EventAnswered:       {approvals.Pending},
	approvals.EventExpired:        {approvals.Expired},
	approvals.EventCancelled:      {approvals.Cancelled},
	approvals.EventReopened:       {approvals.Pending},
	approvals.EventTightened:      {approvals.Pending},
	approvals.EventExecuting:      {approvals.Executing},
	approvals.EventSucceeded:      {approvals.Succeeded},
	approvals.EventFailed:         {approvals.Failed},
	approvals.EventOutcomeUnknown: {approvals.OutcomeUnknown},
	approvals.EventResolved:       {approvals.Succeeded, approvals.Failed},
}

// legal reports whether an event may follow in a state, which is "" before the first.
func legal(before approvals.State, e approvals.Event) bool {
	if (before == "") != (e.Type == approvals.EventCreated) || !slices.Contains(approvals.EventTypes(), e.Type) {
		return false
	}
	to, moving := moves[e.Type]
	if !moving {
		return e.State == before
	}
	return slices.Contains(to, e.State) && (before == "" || approvals.Legal(before, e.State))
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

// sameData compares the facts of an event with the JSON in its column, key by key.
func sameData(d approvals.Data, column json.RawMessage) bool {
	if column == nil {
		return true
	}
	ours, err := json.Marshal(d)
	if err != nil {
		return false
	}
	a, errA := decode(ours)
	b, errB := decode(column)
	return errA == nil && errB == nil && reflect.DeepEqual(a, b)
}

// decode keeps numbers as they are spelled; floats would make large ones equal.
func decode(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

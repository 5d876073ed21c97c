package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign/approvals"
)

// schema opens every canonical form, so that bytes of one meaning can never be taken
// for another.
const schema = "countersign-audit-event/v1"

// maxField bounds one field of a canonical form when it is read back.
const maxField = 16 << 20

// Hash is a SHA-256 digest of a canonical form, or the start of a chain.
type Hash [32]byte

// Canon returns the bytes of an event that are hashed and stored: the fields in fixed
// order, each preceded by its length in 8 bytes, big endian. prev binds the event to
// the one before it.
//
// What was written once must be written the same way for ever: a field added to
// [approvals.Data] is left out when it is empty, or the schema gets a new number.
func Canon(e approvals.Event, prev Hash) ([]byte, error) {
	canon, _, err := encode(e, prev)
	return canon, err
}

// encode returns the canonical form and, apart, the JSON of the data that it ends with.
func encode(e approvals.Event, prev Hash) (canon, data []byte, err error) {
	data, err = marshal(e.Data)
	if err != nil {
		return nil, nil, fmt.Errorf("marshal the data of event %s/%d: %w", e.TicketID, e.Seq, err)
	}
	w := &writer{b: make([]byte, 0, 512+len(data))}
	w.text(schema)
	w.text(e.TicketID)
	w.number(e.Seq)
	w.bytes(prev[:])
	w.text(string(e.Type))
	w.number(e.At.UnixMicro())
	w.text(string(e.Actor.Kind))
	w.text(e.Actor.Name)
	w.text(e.Actor.Via)
	w.text(e.Actor.Ref)
	w.text(string(e.State))
	w.bytes(data)
	return w.b, data, nil
}

// marshal renders data so that reading it and rendering it again gives the same bytes.
// The encoder breaks this for text that is not UTF-8 alone: it writes an escape for what
// it will later read as a character.
func marshal(d approvals.Data) ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil || !bytes.Contains(b, []byte(`\ufffd`)) {
		return b, err
	}
	var mended approvals.Data
	if err := json.Unmarshal(b, &mended); err != nil {
		return nil, err
	}
	return json.Marshal(mended)
}

// Parse reads a canonical form back: the event, and the hash it binds itself to. It
// accepts exactly what Canon writes.
func Parse(canon []byte) (approvals.Event, Hash, error) {
	r := &reader{b: canon}
	if got := r.text(); r.err == nil && got != schema {
		return approvals.Event{}, Hash{}, fmt.Errorf("unknown audit schema %q", got)
	}
	var e approvals.Event
	var prev Hash
	e.TicketID = r.text()
	e.Seq = r.number()
	r.hash(&prev)
	e.Type = approvals.EventType(r.text())
	e.At = time.UnixMicro(r.number()).UTC()
	e.Actor.Kind = approvals.ActorKind(r.text())
	e.Actor.Name = r.text()
	e.Actor.Via = r.text()
	e.Actor.Ref = r.text()
	e.State = approvals.State(r.text())
	data := r.bytes()
	if r.err == nil && len(r.b) != 0 {
		r.err = errors.New("bytes after the last field")
	}
	if r.err == nil {
		r.err = json.Unmarshal(data, &e.Data)
	}
	if r.err != nil {
		return approvals.Event{}, Hash{}, fmt.Errorf("parse canonical event: %w", r.err)
	}
	// JSON has many spellings of one meaning, and the decoder overlooks what it does not
	// know; only one spelling is ours.
	again, err := Canon(e, prev)
	if err != nil {
		return approvals.Event{}, Hash{}, fmt.Errorf("parse canonical event: %w", err)
	}
	if !bytes.Equal(again, canon) {
		return approvals.Event{}, Hash{}, errors.New("parse canonical event: the data is not in canonical form")
	}
	return e, prev, nil
}

type writer struct{ b []byte }

func (w *writer) bytes(p []byte) {
	w.b = binary.BigEndian.AppendUint64(w.b, uint64(len(p)))
	w.b = append(w.b, p...)
}

func (w *writer) text(s string) { w.bytes([]byte(s)) }

func (w *writer) number(n int64) {
	w.bytes(binary.BigEndian.AppendUint64(nil, uint64(n))) //nolint:gosec // two's complement, read back the same way
}

type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes() []byte {
	if r.err != nil {
		return nil
	}
	if len(r.b) < 8 {
		r.err = errors.New("cut short")
		return nil
	}
	n := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	if n > maxField || n > uint64(len(r.b)) {
		r.err = errors.New("a field is longer than what is left")
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) number() int64 {
	b := r.bytes()
	if r.err == nil && len(b) != 8 {
		r.err = errors.New("a number is not 8 bytes long")
	}
	if r.err != nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b)) //nolint:gosec // two's complement, as written
}

func (r *reader) hash(h *Hash) {
	b := r.bytes()
	if r.err == nil && len(b) != len(h) {
		r.err = errors.New("a hash is not 32 bytes long")
	}
	copy(h[:], b)
}

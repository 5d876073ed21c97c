package api

import "time"

// Timestamp is a moment in an answer: RFC 3339, UTC, milliseconds. The zero Timestamp is
// null: not yet.
type Timestamp struct{ time.Time }

// MarshalJSON renders the moment.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z07:00"`)), nil
}

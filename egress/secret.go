package egress

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// hidden is what a Secret shows of itself.
const hidden = "***"

// Secret is a credential or a signing key. It prints *** under every verb, in JSON, in text encodings and in slog, so
// that a struct holding one can be logged without a thought. The zero Secret is empty.
type Secret struct {
	// A pointer, because fmt does not call methods on unexported fields of other structs: it would print a string,
	// but of a nested pointer it prints only the address.
	value *string
}

// NewSecret wraps a credential value as it is; signing secrets come from [ParseSecret].
func NewSecret(value string) Secret { return Secret{value: &value} }

// Empty reports whether there is nothing to keep secret.
func (s Secret) Empty() bool { return s.reveal() == "" }

// Equal compares two secrets in a time that depends only on their lengths.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.reveal()), []byte(other.reveal())) == 1
}

// String returns ***.
func (s Secret) String() string { return hidden }

// GoString returns ***.
func (s Secret) GoString() string { return hidden }

// Format writes *** whatever the verb; without it %x or %d would reach the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON returns "***". There is deliberately no way back.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText returns ***, which covers YAML and XML too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue returns ***.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

func (s Secret) reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

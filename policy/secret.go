package policy

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden is what a Secret shows of itself.
const hidden = "***"

// Secret is the value behind an env:NAME or file:PATH reference. It prints *** under every
// verb, in JSON, in text encodings and in slog. The zero Secret is empty.
type Secret struct {
	// A pointer, because fmt does not call methods on unexported fields of other structs: it
	// would print a string, but of a nested pointer it prints only the address.
	value *string
	ref   string
}

// Reveal returns the value itself, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Ref returns the reference as it stands in the file, such as "env:BILLING_TOKEN". It is
// not a secret.
func (s Secret) Ref() string { return s.ref }

// IsZero reports whether there is nothing to keep secret.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

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

func newSecret(value, ref string) Secret { return Secret{value: &value, ref: ref} }

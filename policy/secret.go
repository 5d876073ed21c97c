package policy

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// hidden is what a Secret shows of itself.
const hidden = "***"

// execPrefix begins a reference to a program.
const execPrefix = "exec:"

// Secret is the value behind an env:NAME or file:PATH reference, or the name of a program
// that prints it. It prints *** under every verb, in JSON, in text encodings and in slog. The
// zero Secret is empty.
type Secret struct {
	// A pointer, because fmt does not call methods on unexported fields of other structs: it
	// would print a string, but of a nested pointer it prints only the address.
	value *string
	ref   string
}

// Reveal returns the value itself, "" for the zero Secret and for one that a program prints.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Ref returns the reference as it stands in the file, such as "env:BILLING_TOKEN". It is
// not a secret.
func (s Secret) Ref() string { return s.ref }

// Exec returns the program that prints the value, with its arguments, as they stand in an
// exec: reference, split at blanks. False: there is none, and [Secret.Reveal] has the value.
// Loading a configuration does not run it.
func (s Secret) Exec() (argv []string, ok bool) {
	command, ok := strings.CutPrefix(s.ref, execPrefix)
	if !ok || s.value != nil {
		return nil, false
	}
	return strings.Fields(command), true
}

// IsZero reports whether there is nothing to keep secret.
func (s Secret) IsZero() bool {
	_, program := s.Exec()
	return !program && s.Reveal() == ""
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

func newSecret(value, ref string) Secret { return Secret{value: &value, ref: ref} }

package slack

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a bot token or a signing secret. However it is printed, logged or encoded, it
// shows as "***"; convert it to a string to use it.
type Secret string

const masked = "***"

// String returns "***".
func (Secret) String() string { return masked }

// Format writes "***" whatever the verb; without it, a mistaken %d would print the secret.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

// LogValue returns "***", for slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText returns "***", for JSON and other encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Format keeps fmt, which does not ask unexported fields how to print them, from showing
// the token.
func (Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "slack.Client("+masked+")") }

// Format keeps fmt from showing the signing secrets.
func (Verifier) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "slack.Verifier("+masked+")") }

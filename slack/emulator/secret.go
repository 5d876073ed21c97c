package emulator

import "log/slog"

// Secret is a token or signing secret. However it is printed, logged or encoded, it shows
// as "***"; convert it to a string to use it.
type Secret string

const redacted = "***"

// String returns "***".
func (Secret) String() string { return redacted }

// GoString returns "***", for %#v.
func (Secret) GoString() string { return redacted }

// LogValue returns "***", for slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "***", for JSON and other encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

package embedded

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
)

// URL is a superuser's connection string. However it is printed, logged or marshalled, its user, password and
// parameters show as ***; only Reveal gives it away.
type URL struct{ dsn string }

// NewURL wraps a connection string: a postgres:// URL or a keyword/value string.
func NewURL(dsn string) URL { return URL{dsn: dsn} }

// Reveal is the connection string, password included. Hand it to the driver and to nothing else.
func (u URL) Reveal() string { return u.dsn }

// String is the URL without user, password and parameters, or *** when it is not in URL form.
func (u URL) String() string {
	parsed, err := url.Parse(u.dsn)
	switch {
	case u.dsn == "":
		return ""
	case err != nil || parsed.Host == "":
		return "***"
	}
	return parsed.Scheme + "://***@" + parsed.Host + parsed.EscapedPath()
}

// Format prints String under every verb, those included that would otherwise look inside the struct.
func (u URL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// LogValue is String, for slog.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText is String, for encoding/json and its kin.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

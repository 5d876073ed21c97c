package approvals

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"time"
)

// Header is one header field of a call, in the order in which it will be sent.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Call is the privileged HTTP request a ticket carries, exactly as it will be made.
// Path is the escaped path below the upstream's base URL; Query is the raw query
// without "?". It never changes after submit.
type Call struct {
	Upstream string   `json:"upstream"`
	Method   string   `json:"method"`
	Path     string   `json:"path"`
	Query    string   `json:"query,omitempty"`
	Headers  []Header `json:"headers,omitempty"`
	Body     []byte   `json:"body,omitempty"`
}

// Binding is everything an approval is bound to. A change of any field between view
// and send changes the digest and so voids the approvals.
type Binding struct {
	Caller     string
	OnBehalfOf string
	Call       Call
	// UpstreamDigest is the digest of the upstream's configuration (base URL,
	// credential references, limits), so that re-pointing an upstream is noticed.
	UpstreamDigest string
	CallbackURL    string
	ExpiresAt      time.Time
	// NotBefore is when the call may be made at the earliest; the zero time: at once.
	NotBefore time.Time
}

// Digest returns the request digest in hex: SHA-256 over a domain-separated canonical
// form in which each field is preceded by its length, so that no two different
// bindings share their bytes.
func (b Binding) Digest() string {
	h := sha256.New()
	write := func(s string) { writeField(h, s) }
	write("countersign-request/v1")
	write(b.Caller)
	write(b.OnBehalfOf)
	write(b.Call.Upstream)
	write(b.UpstreamDigest)
	write(b.Call.Method)
	write(b.Call.Path)
	write(b.Call.Query)
	writeCount(h, len(b.Call.Headers))
	for _, f := range b.Call.Headers {
		write(f.Name)
		write(f.Value)
	}
	write(b.Call.BodyDigest())
	write(b.CallbackURL)
	write(b.ExpiresAt.UTC().Format(time.RFC3339Nano))
	if !b.NotBefore.IsZero() { // one field more: no binding without it has the same bytes
		write(b.NotBefore.UTC().Format(time.RFC3339Nano))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// BodyDigest returns the SHA-256 of the body in hex.
func (c Call) BodyDigest() string {
	sum := sha256.Sum256(c.Body)
	return hex.EncodeToString(sum[:])
}

// check holds the call to the limits of the domain. What is not UTF-8 is refused because
// neither the audit trail nor the stored call could give it back as it was.
func (c Call) check() error {
	for _, f := range []struct {
		what, text string
		limit      int
	}{
		{"upstream", c.Upstream, MaxName},
		{"method", c.Method, MaxMethod},
		{"path", c.Path, MaxPath},
		{"query", c.Query, MaxQuery},
	} {
		if err := checkText(f.what, f.text, f.limit); err != nil {
			return err
		}
	}
	if len(c.Headers) > MaxHeaders {
		return refuse(CodeInvalid, "the call has %d headers, at most %d are allowed", len(c.Headers), MaxHeaders)
	}
	for _, h := range c.Headers {
		if err := checkText("a header name", h.Name, MaxHeaderName); err != nil {
			return err
		}
		if err := checkText("a header value", h.Value, MaxHeaderValue); err != nil {
			return err
		}
	}
	if len(c.Body) > MaxBody {
		return refuse(CodeInvalid, "the body is %d bytes long, at most %d are allowed", len(c.Body), MaxBody)
	}
	return nil
}

// Fingerprint is what people compare of a request digest: the first 16 hex digits, in groups
// of four, of its HMAC-SHA256 under the key of this installation. Without the key nobody can
// try out which secrets, of the few that are likely, a request holds. "" without a key, or
// without a digest.
func Fingerprint(key []byte, digest string) string {
	if len(key) == 0 || digest == "" {
		return ""
	}
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(digest)) // a hash never fails
	text := hex.EncodeToString(h.Sum(nil)[:8])
	return text[0:4] + " " + text[4:8] + " " + text[8:12] + " " + text[12:16]
}

func writeField(h hash.Hash, s string) {
	writeCount(h, len(s))
	_, _ = h.Write([]byte(s)) // a hash never fails
}

func writeCount(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n)) //nolint:gosec // a length is never negative
	_, _ = h.Write(b[:])
}

package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"countersign/approvals"
	"countersign/db"
)

// pageTokens seals places in a list. A token is bound to the filters of its list and
// gives no authority: whoever holds one still needs a key, and sees only their own.
type pageTokens struct {
	secret func(ctx context.Context) ([]byte, error)

	mu  sync.Mutex
	key []byte
}

const (
	tokenVersion = 1
	tokenStamp   = 8  // bytes of the time, microseconds since 1970
	tokenSeal    = 16 // bytes of the HMAC that are kept
)

// filterHash identifies whose list it is and its filters, the page size left out.
func filterHash(l listing) []byte {
	f, h := l.filter, sha256.New()
	_, _ = fmt.Fprintf(h, "%q %q %d %d", f.Caller, f.States, stamp(f.CreatedAfter), stamp(f.CreatedBefore))
	if l.person != "" {
		_, _ = fmt.Fprintf(h, " person %q %t", l.person, l.waiting)
	}
	return h.Sum(nil)
}

func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// seal makes the token for a place.
func (p *pageTokens) seal(ctx context.Context, l listing, at db.Cursor) (string, error) {
	body := []byte{tokenVersion}
	body = binary.BigEndian.AppendUint64(body, uint64(at.CreatedAt.UnixMicro()))
	body = append(body, at.ID...)
	mac, err := p.mac(ctx, l, body)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(body, mac...)), nil
}

// open reads a token that was sealed for the same filters.
func (p *pageTokens) open(ctx context.Context, l listing, token string) (db.Cursor, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) <= 1+tokenStamp+tokenSeal || len(raw) > 256 {
		return db.Cursor{}, badToken()
	}
	body, got := raw[:len(raw)-tokenSeal], raw[len(raw)-tokenSeal:]
	want, err := p.mac(ctx, l, body)
	if err != nil {
		return db.Cursor{}, err
	}
	id := string(body[1+tokenStamp:])
	if !hmac.Equal(got, want) || body[0] != tokenVersion || !approvals.ValidTicketID(id) {
		return db.Cursor{}, badToken()
	}
	micros := int64(binary.BigEndian.Uint64(body[1:])) //nolint:gosec // as written by seal
	return db.Cursor{CreatedAt: time.UnixMicro(micros).UTC(), ID: id}, nil
}

func (p *pageTokens) mac(ctx context.Context, l listing, body []byte) ([]byte, error) {
	key, err := p.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the secret for page tokens: %w", err)
	}
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(filterHash(l))
	_, _ = h.Write(body)
	return h.Sum(nil)[:tokenSeal], nil
}

// load reads the secret once; all replicas share it.
func (p *pageTokens) load(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key == nil {
		key, err := p.secret(ctx)
		if err != nil {
			return nil, err
		}
		p.key = key
	}
	return p.key, nil
}

func badToken() error {
	f := fail(codeBadPageToken, "the page token is not one of this list; start again without it, or send the filters it came with")
	f.errors = []ProblemItem{{Parameter: "page_token", Detail: "not a token of this list"}}
	return f
}

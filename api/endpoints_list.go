package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"countersign/db"
)

// ListCallbackEndpoints lists the endpoints that whoever asks may see.
func (o operations) ListCallbackEndpoints(ctx context.Context, r ListCallbackEndpointsRequestObject) (ListCallbackEndpointsResponseObject, error) {
	x, p := exchangeOf(ctx), r.Params
	var f db.EndpointFilter
	switch p.Disabled {
	case "", "false":
	case "true":
		f.Disabled = true
	default:
		return nil, badParameter("disabled", "disabled must be true or false")
	}
	s, err := o.sieveOf(ctx, x, p.PageSize, p.PageToken, fmt.Sprintf("endpoints %q %t", p.Caller, f.Disabled))
	if err != nil {
		return nil, err
	}
	caller, none := x.about(p.Caller)
	f.Caller = caller
	out := CallbackEndpointList{Items: []CallbackEndpoint{}}
	if none {
		return private(out), nil
	}
	found, next, err := sift(s, func(after string, limit int) ([]db.Endpoint, error) {
		f.After, f.Limit = after, limit
		return o.store.Endpoints(ctx, f)
	}, func(e db.Endpoint) (id, caller string) { return e.ID, e.Caller })
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	for _, e := range found {
		out.Items = append(out.Items, o.showEndpoint(x, e))
	}
	out.NextPageToken, err = o.sealPlace(ctx, s, next)
	return private(out), err
}

// about is the caller whose things a list is of, "" for all that whoever asks may see. None
// is set when that is nothing.
func (x *exchange) about(wanted string) (caller string, none bool) {
	if x.person.Name == "" {
		return x.caller.Name, wanted != "" && wanted != x.caller.Name || x.caller.Name == ""
	}
	return wanted, wanted != "" && !x.tends(wanted)
}

// sieve is a page of a list, of which whoever asks may see a part.
type sieve struct {
	x     *exchange
	limit int
	after string // the last id of the page before
	// bound is whose list it is and its filters, which a page token holds for.
	bound string
}

func (o operations) sieveOf(ctx context.Context, x *exchange, size, token, filters string) (sieve, error) {
	s := sieve{x: x, bound: x.who() + " " + filters}
	var err error
	if s.limit, err = parsePage(size); err != nil {
		return s, err
	}
	if token != "" {
		s.after, err = o.openPlace(ctx, s, token)
	}
	return s, err
}

// sift reads a page, and the id behind which the next one begins, "" when there is none. At
// most maxScan are looked through.
func sift[T any](s sieve, read func(after string, limit int) ([]T, error), name func(T) (id, caller string)) (out []T, next string, err error) {
	after, size := s.after, s.limit+1 // one more tells whether there is a next page
	if s.x.person.Name != "" && !s.x.oversees() {
		size = maxPage
	}
	for scanned := 0; scanned < maxScan; scanned += size {
		page, err := read(after, size)
		if err != nil {
			return nil, "", err
		}
		for _, one := range page {
			if len(out) == s.limit {
				return out, after, nil
			}
			id, caller := name(one)
			if after = id; s.x.tends(caller) {
				out = append(out, one)
			}
		}
		if len(page) < size {
			return out, "", nil
		}
	}
	return out, after, nil
}

// listPlace tells the tokens of these lists from those of tickets.
const listPlace = 2

// sealPlace makes the page token for a place in a list, "" for its end.
func (o operations) sealPlace(ctx context.Context, s sieve, id string) (string, error) {
	if id == "" {
		return "", nil
	}
	body := append([]byte{listPlace}, id...)
	mac, err := o.tokens.place(ctx, s, body)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(body, mac...)), nil
}

// openPlace reads a token that was made for the same list.
func (o operations) openPlace(ctx context.Context, s sieve, token string) (string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) <= 1+tokenSeal || len(raw) > 256 {
		return "", badToken()
	}
	body, got := raw[:len(raw)-tokenSeal], raw[len(raw)-tokenSeal:]
	want, err := o.tokens.place(ctx, s, body)
	if err != nil {
		return "", err
	}
	if !hmac.Equal(got, want) || body[0] != listPlace {
		return "", badToken()
	}
	return string(body[1:]), nil
}

func (p *pageTokens) place(ctx context.Context, s sieve, body []byte) ([]byte, error) {
	key, err := p.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the secret for page tokens: %w", err)
	}
	h := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(h, "%q %s", s.bound, body)
	return h.Sum(nil)[:tokenSeal], nil
}

package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"time"

	"countersign/approvals"
	"countersign/db"
)

const (
	// listPause and maxListPause are how long a list is left alone after it was looked at in
	// vain: the wait of a client whose other tickets change all the time costs little so.
	listPause    = 100 * time.Millisecond
	maxListPause = 2 * time.Second
)

// tag is the entity tag of a page: who sees which tickets at which versions on it, under
// which configuration, and where it ends. What is shown of a ticket follows from these.
func (l listing) tag(x *exchange, tickets []db.Seen, next db.Cursor) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %s %d ", x.who(), x.config.Digest, l.filter.Limit)
	_, _ = h.Write(filterHash(l))
	var version [8]byte
	for _, t := range tickets {
		_, _ = h.Write([]byte(t.ID))
		binary.BigEndian.PutUint64(version[:], uint64(t.Version)) //nolint:gosec // never negative
		_, _ = h.Write(version[:])
	}
	_, _ = h.Write([]byte(next.ID))
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]) + `"`
}

func seen(tickets []approvals.Ticket) []db.Seen {
	out := make([]db.Seen, 0, len(tickets))
	for _, t := range tickets {
		out = append(out, db.Seen{Cursor: db.Cursor{CreatedAt: t.CreatedAt, ID: t.ID}, Version: t.Version})
	}
	return out
}

// currentTag is the tag of a page as it is now. Where everything the database selects is on
// the page, no ticket is read for it.
func (o operations) currentTag(ctx context.Context, x *exchange, l listing) (string, error) {
	if l.waiting || l.person != "" && !x.oversees() {
		tickets, next, err := o.page(ctx, x, l)
		return l.tag(x, seen(tickets), next), err
	}
	f := l.filter
	f.Limit++ // one more tells whether there is a next page
	tickets, err := o.store.Validators(ctx, f)
	if err != nil {
		return "", err
	}
	var next db.Cursor
	if len(tickets) > l.filter.Limit {
		tickets = tickets[:l.filter.Limit]
		next = tickets[l.filter.Limit-1].Cursor
	}
	return l.tag(x, tickets, next), nil
}

// awaitList returns the tag of a page as soon as it is not among those known, or as it is
// when the wait, or the server, ends. Whoever knows none waits for it to become another.
func (o operations) awaitList(ctx context.Context, x *exchange, l listing, wait waiting, known etags) (string, error) {
	if wait.length <= 0 {
		return o.currentTag(ctx, x, l)
	}
	short, cancel := context.WithTimeout(ctx, wait.length)
	defer cancel()
	leave, err := o.waiters.enter(x.who(), o.mayWait(x), cancel)
	if err != nil {
		return "", err
	}
	defer leave()
	sub := o.store.Subscribe(db.Topic{Caller: l.filter.Caller})
	defer sub.Close()
	tag, err := o.currentTag(ctx, x, l)
	if !known.given {
		known.tags = []string{tag}
	}
	for gap := listPause; err == nil && known.has(tag) && short.Err() == nil; gap = min(2*gap, maxListPause) {
		select {
		case <-sub.C:
		case <-o.store.Closed():
			return tag, nil
		case <-short.Done():
			return tag, nil
		}
		sub.Take()
		if tag, err = o.currentTag(ctx, x, l); err == nil && known.has(tag) {
			pause(short, gap)
		}
	}
	return tag, err
}

// sameList is the answer to a client that has the page already.
func sameList(tag string, wait waiting) answer {
	a := answer{status: http.StatusNotModified, header: make(http.Header)}
	a.tagged(tag)
	a.waited(wait)
	return a
}

func (a answer) tagged(tag string) {
	a.header.Set("Cache-Control", "private, no-cache")
	a.header["ETag"] = []string{tag} // as the RFC writes it, not as Go would
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// api is the public API with one caller's or person's key.
type api struct {
	http doer
	base string
	key  string
}

// ticket is what is read of a ticket.
type ticket struct {
	ID          string            `json:"id"`
	State       string            `json:"state"`
	Done        bool              `json:"done"`
	Version     int64             `json:"version"`
	Rule        string            `json:"rule"`
	Digest      string            `json:"digest"`
	Fingerprint string            `json:"fingerprint"`
	Metadata    map[string]string `json:"metadata"`
	WaitingFor  []string          `json:"waiting_for"`
	Stage       *progress         `json:"stage"`
	Decisions   []decision        `json:"decisions"`
	Error       *problem          `json:"error"`
	Question    *struct {
		Person string `json:"person"`
		Text   string `json:"text"`
	} `json:"question"`
	Supersedes   string `json:"supersedes"`
	SupersededBy string `json:"superseded_by"`
	BreakGlass   *struct {
		Person  string `json:"person"`
		Comment string `json:"comment"`
	} `json:"break_glass"`
	Callback struct {
		State string `json:"state"`
	} `json:"callback"`
}

type progress struct {
	Name   string `json:"name"`
	Index  int    `json:"index"`
	Of     int    `json:"of"`
	Needed int    `json:"needed"`
	Have   int    `json:"have"`
}

type decision struct {
	Person  string `json:"person"`
	Verdict string `json:"verdict"`
	Stage   int    `json:"stage"`
	Comment string `json:"comment"`
}

type problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (t ticket) errorCode() string {
	if t.Error == nil {
		return ""
	}
	return t.Error.Code
}

// stands is "stage 2 of 2: 1 of 2".
func (t ticket) stands() string {
	if t.Stage == nil {
		return "no stage"
	}
	return fmt.Sprintf("stage %d of %d: %d of %d", t.Stage.Index, t.Stage.Of, t.Stage.Have, t.Stage.Needed)
}

// submission is the body of a submit.
type submission struct {
	Upstream      string            `json:"upstream"`
	Method        string            `json:"method"`
	Path          string            `json:"path"`
	Body          json.RawMessage   `json:"body,omitempty"`
	Justification string            `json:"justification"`
	Callback      callback          `json:"callback"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	NotBefore     string            `json:"not_before,omitempty"`
	Supersedes    string            `json:"supersedes,omitempty"`
}

// callback is where the caller is told, and of what besides the end.
type callback struct {
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"`
}

// call sends a request to a path of the API.
func (a *api) call(ctx context.Context, method, path string, body any, headers ...string) (answer, error) {
	return exchange(ctx, a.http, method, a.base+path, body, append([]string{"Authorization", "Bearer " + a.key}, headers...)...)
}

// submit hands in a call under a key of its own and returns the ticket, which has to be
// there at once.
func (a *api) submit(ctx context.Context, s submission) (answer, ticket, error) {
	return a.submitAs(ctx, s, rand.Text())
}

func (a *api) submitAs(ctx context.Context, s submission, key string) (answer, ticket, error) {
	got, err := a.call(ctx, http.MethodPost, "/v1/tickets", s, "Idempotency-Key", key)
	if err != nil {
		return got, ticket{}, err
	}
	if got.status != http.StatusAccepted {
		return got, ticket{}, fmt.Errorf("submit %s %s: answered %d: %s", s.Method, s.Path, got.status, got.body)
	}
	t, err := ticketOf(got)
	return got, t, err
}

func ticketOf(a answer) (ticket, error) {
	var t ticket
	if err := json.Unmarshal(a.body, &t); err != nil {
		return t, fmt.Errorf("read a ticket: %w", err)
	}
	return t, nil
}

// get reads a ticket.
func (a *api) get(ctx context.Context, id string, headers ...string) (answer, ticket, error) {
	got, err := a.call(ctx, http.MethodGet, "/v1/tickets/"+id, nil, headers...)
	if err != nil || got.status == http.StatusNotModified {
		return got, ticket{}, err
	}
	if got.status != http.StatusOK {
		return got, ticket{}, fmt.Errorf("read ticket %s: answered %d: %s", id, got.status, got.body)
	}
	t, err := ticketOf(got)
	return got, t, err
}

// pollWait is how long a poll may be held.
const pollWait = 10

// preferWait asks for a long poll.
func preferWait() []string { return []string{"Prefer", "wait=" + strconv.Itoa(pollWait)} }

// end waits, by long poll, until the ticket is done.
func (a *api) end(ctx context.Context, id string) (t ticket, err error) {
	err = until(ctx, exchangeLimit, func(ctx context.Context) (bool, error) {
		_, t, err = a.get(ctx, id, preferWait()...)
		return t.Done, err
	})
	if err != nil {
		return t, fmt.Errorf("wait for the end of %s, which is %q: %w", id, t.State, err)
	}
	return t, nil
}

// polled is the end of a long poll.
type polled struct {
	answer
	ticket
	took time.Duration
	err  error
}

// poll waits for the end of a ticket in the background.
func (a *api) poll(ctx context.Context, id string, now func() time.Time) <-chan polled {
	out := make(chan polled, 1)
	go func() {
		began := now()
		got, t, err := a.get(ctx, id, preferWait()...)
		out <- polled{answer: got, ticket: t, took: now().Sub(began), err: err}
	}()
	return out
}

// page is a page of the list.
type page struct {
	Items []ticket `json:"items"`
	Next  string   `json:"next_page_token"`
}

// list reads all pages.
func (a *api) list(ctx context.Context, query string) (all []ticket, err error) {
	for token := ""; ; {
		p, err := fetch[page](ctx, a.http, http.MethodGet, a.base+"/v1/tickets?"+query+"&page_token="+token, nil, "Authorization", "Bearer "+a.key)
		if err != nil {
			return nil, err
		}
		if all = append(all, p.Items...); p.Next == "" {
			return all, nil
		}
		token = p.Next
	}
}

package interact

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"countersign/slack"
)

// The addresses that Slack calls.
const (
	PathInteractions = "/slack/interactions"
	PathCommands     = "/slack/commands"
	PathEvents       = "/slack/events"
)

// kinds says what comes in at which address.
var kinds = map[string]Kind{PathInteractions: KindInteraction, PathCommands: KindCommand, PathEvents: KindEvent}

// forgeryBurst and forgeryEvery bound how often the log says why something is not Slack's:
// not as often as somebody can send it.
const (
	forgeryBurst = 10
	forgeryEvery = 6 * time.Second
)

var (
	errReplayed   = errors.New("a request that was taken before")
	errNoVerifier = errors.New("requests over HTTP are not taken: Slack is connected by a socket")
)

// ServeHTTP takes a request at one of the addresses that Slack calls: 401 when it is not
// Slack's or was taken before, 400 when it cannot be read, 413 over 1 MiB, 503 when it could
// not be written down, else 200. To Slack anything but 200 means that the person sees a
// warning and may press again, or that an event is to be sent again.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, ours := kinds[r.URL.Path]
	if !ours || r.Method != http.MethodPost {
		problem(w, r, http.StatusNotFound)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, slack.MaxInteraction))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		problem(w, r, http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		problem(w, r, http.StatusBadRequest)
		return
	}
	if err := d.verify(r.Header, raw); err != nil {
		d.warnOfForgery(r.Context(), err)
		problem(w, r, http.StatusUnauthorized)
		return
	}
	ack := d.Handle(r.Context(), Envelope{Kind: kind, Transport: TransportHTTP, Key: slack.ReplayKey(r.Header), Body: raw})
	if ack.Status != http.StatusOK {
		problem(w, r, ack.Status)
		return
	}
	if len(ack.Body) > 0 {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	_, _ = w.Write(ack.Body) // the one at the other end has gone: nobody to tell
}

func (d *Desk) verify(header http.Header, raw []byte) error {
	if d.c.Verifier == nil {
		return errNoVerifier
	}
	return d.c.Verifier.Verify(header, raw)
}

// warnOfForgery says in the log why a request is not Slack's.
func (d *Desk) warnOfForgery(ctx context.Context, err error) {
	if d.forgers.AllowN(d.c.Now(), 1) {
		d.c.Logger.WarnContext(ctx, "refused a request to the Slack endpoint", slog.Any("error", err))
	}
}

// problems are what is said of each status. Slack shows the person a warning and keeps the
// rest to itself.
var problems = map[int]struct{ code, title, detail string }{
	http.StatusBadRequest:            {"bad_request", "The request is malformed", "the request cannot be read"},
	http.StatusUnauthorized:          {"unauthenticated", "A valid key or token is needed", "the request is not signed by Slack, or was taken before"},
	http.StatusNotFound:              {"not_found", "Not found", "there is nothing here"},
	http.StatusRequestEntityTooLarge: {"body_too_large", "The request body is too large", "the request body is over the limit"},
	http.StatusServiceUnavailable:    {"unavailable", "Temporarily unavailable", "the request could not be carried out"},
}

// problem answers with a problem document (RFC 9457).
func problem(w http.ResponseWriter, r *http.Request, status int) {
	p := problems[status]
	body, _ := json.Marshal(map[string]any{ // strings and a number always marshal
		"type": "/problems/" + strings.ReplaceAll(p.code, "_", "-"), "title": p.title, "status": status, "code": p.code, "detail": p.detail,
		"instance": r.URL.Path, "request_id": w.Header().Get("X-Request-Id"),
	})
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the one at the other end has gone: nobody to tell
}

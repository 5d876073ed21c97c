package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Long polls answer after longestWait at the latest, and the state shows the newest
// stateMessages of each channel unless asked for another number.
const (
	longestWait   = 25 * time.Second
	stateMessages = 200
)

// driver is the JSON side of the methods of Server: what the page and tests in another
// process use.
func (s *Server) driver() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_emulator/state", s.serveState)
	mux.HandleFunc("GET /_emulator/wait", s.serveWait)
	mux.HandleFunc("GET /_emulator/deliveries", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"deliveries": append([]Delivery{}, s.Deliveries()...)})
	})
	mux.HandleFunc("POST /_emulator/click", posted(func(ctx context.Context, a Action) (any, error) { return s.Do(ctx, a) }))
	mux.HandleFunc("POST /_emulator/payload", posted(func(_ context.Context, a Action) (any, error) {
		raw, err := s.Payload(a)
		return json.RawMessage(raw), err
	}))
	mux.HandleFunc("POST /_emulator/views/{id}/submit", s.serveSubmit)
	mux.HandleFunc("POST /_emulator/views/{id}/close", s.serveClose)
	mux.HandleFunc("POST /_emulator/messages", posted(func(_ context.Context, m typedMessage) (any, error) {
		ts, err := s.Post(m.User, m.Channel, m.Text, m.ThreadTS)
		return object{"ts": ts}, err
	}))
	mux.HandleFunc("POST /_emulator/raw", posted(func(ctx context.Context, raw Raw) (any, error) { return s.SendRaw(ctx, raw) }))
	s.people(mux)
	s.settings(mux)
	s.platform(mux)
	return mux
}

type typedMessage struct {
	User     string `json:"user"`
	Channel  string `json:"channel"`
	Text     string `json:"text"`
	ThreadTS string `json:"thread_ts"`
}

// settings are the endpoints that change the workspace behind the app's back.
func (s *Server) settings(mux *http.ServeMux) {
	mux.HandleFunc("POST /_emulator/users", posted(done(s.PutUser)))
	mux.HandleFunc("POST /_emulator/channels", posted(done(s.PutChannel)))
	mux.HandleFunc("POST /_emulator/usergroups", posted(done(s.PutUserGroup)))
	mux.HandleFunc("POST /_emulator/faults", posted(done(s.AddFault)))
	mux.HandleFunc("DELETE /_emulator/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		writeJSON(w, http.StatusOK, object{"ok": true})
	})
	mux.HandleFunc("POST /_emulator/release", posted(done(func(struct{}) { s.ReleaseHangs() })))
	mux.HandleFunc("POST /_emulator/outage", posted(done(func(b struct {
		Down bool `json:"down"`
	},
	) {
		s.SetOutage(b.Down)
	})))
	mux.HandleFunc("POST /_emulator/auth", posted(done(func(b struct {
		Error string `json:"error"`
	},
	) {
		s.SetAuthError(b.Error)
	})))
	mux.HandleFunc("POST /_emulator/interactions_url", posted(done(func(b struct {
		URL string `json:"url"`
	},
	) {
		s.SetInteractionsURL(b.URL)
	})))
}

// done adapts a method that cannot fail.
func done[T any](do func(T)) func(context.Context, T) (any, error) {
	return func(_ context.Context, v T) (any, error) {
		do(v)
		return object{"ok": true}, nil
	}
}

// posted decodes a JSON body, calls do and writes what it returns. What a person began goes
// on when their browser has gone, so do does not see the request's cancellation.
func posted[T any](do func(context.Context, T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		if err := decode(r, &in); err != nil {
			writeJSON(w, http.StatusBadRequest, object{"error": err.Error()})
			return
		}
		out, err := do(context.WithoutCancel(r.Context()), in)
		respondDriver(w, out, err)
	}
}

// decode reads a strict JSON body; an empty one leaves v as it is.
func decode(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func respondDriver(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	switch {
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrNotAllowed):
		status = http.StatusForbidden
	case err != nil:
		status = http.StatusBadGateway
	}
	if err != nil {
		out = object{"error": err.Error()}
	}
	writeJSON(w, status, out)
}

func (s *Server) serveSubmit(w http.ResponseWriter, r *http.Request) {
	posted(func(ctx context.Context, in struct {
		User   string                       `json:"user"`
		Values map[string]map[string]string `json:"values"`
	},
	) (any, error) {
		return s.SubmitView(ctx, in.User, r.PathValue("id"), in.Values)
	})(w, r)
}

func (s *Server) serveClose(w http.ResponseWriter, r *http.Request) {
	posted(func(ctx context.Context, in struct {
		User string `json:"user"`
	},
	) (any, error) {
		return s.CloseView(ctx, in.User, r.PathValue("id"))
	})(w, r)
}

func (s *Server) serveState(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || n < 0 {
		n = stateMessages
	}
	s.mu.Lock()
	state := s.snapshot(n)
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, state)
}

// serveWait answers once the change counter is above since, or with the counter as it is
// when that takes too long.
func (s *Server) serveWait(w http.ResponseWriter, r *http.Request) {
	since, _ := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64)
	t := time.NewTimer(waitFor(r.URL.Query().Get("timeout_ms")))
	defer t.Stop()
	for late := false; ; {
		s.mu.Lock()
		seq, changed := s.seq, s.changed
		s.mu.Unlock()
		if seq > since || late {
			writeJSON(w, http.StatusOK, object{"seq": seq})
			return
		}
		select {
		case <-changed:
		case <-t.C:
			late = true
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		}
	}
}

func waitFor(ms string) time.Duration {
	n, err := strconv.Atoi(ms)
	if err != nil || n < 0 {
		return longestWait
	}
	return min(time.Duration(n)*time.Millisecond, longestWait)
}

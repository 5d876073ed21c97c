package emulator

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// people are the endpoints for what a person does outside of messages and modals.
func (s *Server) people(mux *http.ServeMux) {
	mux.HandleFunc("POST /_emulator/home", posted(func(ctx context.Context, in struct {
		User string `json:"user"`
	},
	) (any, error) {
		return s.OpenHome(ctx, in.User)
	}))
	mux.HandleFunc("GET /_emulator/home/{user}", func(w http.ResponseWriter, r *http.Request) {
		home, ok := s.PublishedHome(r.PathValue("user"))
		if !ok {
			respondDriver(w, nil, fmt.Errorf("%w: no Home tab was published", ErrNotFound))
			return
		}
		respondDriver(w, home, nil)
	})
	mux.HandleFunc("POST /_emulator/commands", posted(func(ctx context.Context, in struct {
		User    string `json:"user"`
		Channel string `json:"channel"`
		Command string `json:"command"`
		Text    string `json:"text"`
	},
	) (any, error) {
		return s.Slash(ctx, in.User, in.Channel, in.Command, in.Text)
	}))
}

// platform are the endpoints for what Slack itself does and is.
func (s *Server) platform(mux *http.ServeMux) {
	mux.HandleFunc("POST /_emulator/clock", posted(func(_ context.Context, in struct {
		AdvanceMS int64 `json:"advance_ms"`
	},
	) (any, error) {
		s.Advance(time.Duration(in.AdvanceMS) * time.Millisecond)
		return object{"now_ms": s.now().UnixMilli()}, nil
	}))
	mux.HandleFunc("POST /_emulator/limits", posted(done(s.SetLimits)))
	mux.HandleFunc("POST /_emulator/tokens", posted(done(s.PutToken)))
	mux.HandleFunc("POST /_emulator/scopes", posted(done(func(in struct {
		Scopes []string `json:"scopes"`
	},
	) {
		s.SetScopes(in.Scopes)
	})))
	mux.HandleFunc("POST /_emulator/signing_secret", posted(done(func(in struct {
		Secret Secret `json:"secret"`
	},
	) {
		s.SetSigningSecret(in.Secret)
	})))
	mux.HandleFunc("POST /_emulator/uninstall", posted(done(func(struct{}) { s.Uninstall() })))
	mux.HandleFunc("POST /_emulator/revoke", posted(done(func(struct{}) { s.RevokeTokens() })))
	mux.HandleFunc("POST /_emulator/channels/{id}/rename", s.serveRename)
	mux.HandleFunc("POST /_emulator/usergroups/{id}/members", s.serveMembers)
	s.eventEndpoints(mux)
	s.socketEndpoints(mux)
}

func (s *Server) eventEndpoints(mux *http.ServeMux) {
	mux.HandleFunc("POST /_emulator/events", posted(func(ctx context.Context, inner object) (any, error) {
		return object{"ok": true}, s.Fire(ctx, inner)
	}))
	mux.HandleFunc("POST /_emulator/events/wait", posted(func(ctx context.Context, _ struct{}) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, longestWait)
		defer cancel()
		return object{"ok": true}, s.WaitEvents(ctx)
	}))
	mux.HandleFunc("POST /_emulator/events/verify", posted(func(ctx context.Context, _ struct{}) (any, error) {
		return object{"ok": true}, s.VerifyEventsURL(ctx)
	}))
	for name, set := range map[string]func(string){"events_url": s.SetEventsURL, "commands_url": s.SetCommandsURL} {
		mux.HandleFunc("POST /_emulator/"+name, posted(done(func(in struct {
			URL string `json:"url"`
		},
		) {
			set(in.URL)
		})))
	}
}

func (s *Server) socketEndpoints(mux *http.ServeMux) {
	mux.HandleFunc("POST /_emulator/socket", posted(done(func(in struct {
		On bool `json:"on"`
	},
	) {
		s.SetSocketMode(in.On)
	})))
	mux.HandleFunc("POST /_emulator/socket/disconnect", posted(done(func(in struct {
		Reason string `json:"reason"`
	},
	) {
		s.Disconnect(in.Reason)
	})))
	mux.HandleFunc("POST /_emulator/socket/cut", posted(done(func(struct{}) { s.CutSockets() })))
	mux.HandleFunc("POST /_emulator/socket/send", posted(func(ctx context.Context, frame object) (any, error) {
		payload, err := s.SendEnvelope(ctx, frame)
		return object{"payload": payload}, err
	}))
}

func (s *Server) serveRename(w http.ResponseWriter, r *http.Request) {
	posted(func(_ context.Context, in struct {
		To string `json:"to"`
	},
	) (any, error) {
		if in.To == "" || !s.RenameChannelID(r.PathValue("id"), in.To) {
			return nil, fmt.Errorf("%w: channel %s, or its new id is taken", ErrNotFound, r.PathValue("id"))
		}
		return object{"ok": true}, nil
	})(w, r)
}

func (s *Server) serveMembers(w http.ResponseWriter, r *http.Request) {
	posted(func(_ context.Context, in struct {
		Members []string `json:"members"`
	},
	) (any, error) {
		if !s.UpdateUserGroup(r.PathValue("id"), func(g *UserGroup) { g.Members = in.Members }) {
			return nil, fmt.Errorf("%w: user group %s", ErrNotFound, r.PathValue("id"))
		}
		return object{"ok": true}, nil
	})(w, r)
}

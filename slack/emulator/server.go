package emulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is one workspace with one app installed. It is an [http.Handler] and is safe for
// concurrent use. Close it when done.
type Server struct {
	cfg     Config
	log     *slog.Logger
	handler http.Handler
	done    chan struct{}
	closing sync.Once

	mu           sync.Mutex // guards everything below
	users        map[string]*User
	userOrder    []string
	channels     map[string]*channel
	channelOrder []string
	groups       map[string]*UserGroup
	groupOrder   []string

	ephemerals    []*message
	views         map[string]*view
	stacks        map[string][]*view // per user, root first
	triggers      map[string]*trigger
	responseURLs  map[string]*responseURL
	notifications []Notification
	warnings      []Warning
	deliveries    []Delivery
	faults        []*Fault
	release       chan struct{} // closed and replaced to let hanging calls go
	outage        bool
	authError     string

	clock     *Clock
	signing   Secret
	tokens    map[string]*token
	refreshes map[string]*refresh
	rotating  []*token // the access tokens of a rotation that are good, oldest first
	limits    Limits
	buckets   map[string]*bucket
	homes     map[string]*view // per user

	clientIDs     map[string]bool // channel/client_msg_id
	clientIDOrder []string

	eventsURL      string
	eventsVerified bool
	commandsURL    string
	events         []*event             // not yet attempted
	aside          []*event             // kept back by OutOfOrder
	retries        map[*event]time.Time // when each is due
	draining       bool
	sendEvents     func()        // drainEvents; a field, as what it does outlives the call that starts it
	inFlight       int           // events in events, in aside or under way
	delivered      chan struct{} // closed and replaced when something reached the app

	socketMode bool
	sockets    []*socket
	opened     int // sockets ever
	turn       int
	tickets    map[string]time.Time // of apps.connections.open, until when they are good
	envelopes  map[string]chan envelopeAck

	interactionsURL string
	baseURL         string
	counter         uint64
	renderEpoch     uint64 // steps when names change, so that cached renderings are dropped
	seq             uint64
	changed         chan struct{} // closed and replaced at every change
}

// New returns a workspace seeded from cfg. It starts nothing: serve it with [Server.Start],
// httptest or any http.Server.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger, done: make(chan struct{}),
		users: map[string]*User{}, channels: map[string]*channel{}, groups: map[string]*UserGroup{},
		views: map[string]*view{}, stacks: map[string][]*view{}, triggers: map[string]*trigger{},
		responseURLs: map[string]*responseURL{}, release: make(chan struct{}), changed: make(chan struct{}),
		interactionsURL: cfg.InteractionsURL, eventsURL: cfg.EventsURL, commandsURL: cfg.CommandsURL, baseURL: cfg.BaseURL,
		clock: cfg.Clock, signing: cfg.SigningSecret, limits: cfg.Limits, buckets: map[string]*bucket{}, homes: map[string]*view{}, clientIDs: map[string]bool{},
		retries: map[*event]time.Time{}, delivered: make(chan struct{}), socketMode: cfg.SocketMode,
		tickets: map[string]time.Time{}, envelopes: map[string]chan envelopeAck{},
	}
	s.sendEvents = s.drainEvents
	s.seedTokens()
	s.seed(cfg.Workspace)
	s.handler = s.routes()
	return s
}

func (s *Server) seed(w Workspace) {
	s.putUser(User{ID: s.cfg.BotUserID, Name: s.cfg.BotName, RealName: s.cfg.BotName, IsBot: true, Color: "#334155"})
	for _, u := range w.Users {
		s.putUser(u)
	}
	for _, c := range w.Channels {
		s.putChannel(c)
	}
	for _, g := range w.UserGroups {
		s.putUserGroup(g)
	}
}

// ServeHTTP serves the Web API under /api/, response_urls under /actions/, web sockets under
// /link/, the driver under /_emulator/ and the page at /. Requests whose Host is not a loopback name get 403.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Start listens on addr, which must be a loopback address such as "127.0.0.1:0", and serves
// until ctx ends or [Server.Close]. It returns the base URL once connections are accepted.
func (s *Server) Start(ctx context.Context, addr string) (string, error) {
	if err := requireLoopback(addr); err != nil {
		return "", err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", addr, err)
	}
	base := "http://" + ln.Addr().String()
	s.SetBaseURL(base)
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	go s.serve(srv, ln)
	go s.stopWith(ctx, srv)
	return base, nil
}

func (s *Server) serve(srv *http.Server, ln net.Listener) {
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("slack emulator stopped serving", slog.String("error", err.Error()))
	}
}

func (s *Server) stopWith(ctx context.Context, srv *http.Server) {
	select {
	case <-ctx.Done():
	case <-s.done:
	}
	s.Close()
	_ = srv.Close()
}

// Close lets hanging calls and waiting readers go and stops what Start began. It may be
// called more than once.
func (s *Server) Close() { s.closing.Do(func() { close(s.done) }) }

// SetInteractionsURL says where interactions go from now on; empty means nowhere.
func (s *Server) SetInteractionsURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interactionsURL = url
}

// SetBaseURL says under which URL, without a trailing slash, the app reaches this server.
func (s *Server) SetBaseURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.baseURL = url
}

// BaseURL returns the URL under which the app reaches this server, or "" before it is known.
func (s *Server) BaseURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.baseURL
}

// APIURL returns the base of the Web API with the trailing slash Slack clients want.
func (s *Server) APIURL() string { return s.BaseURL() + "/api/" }

// touch records a change and wakes everybody waiting for one; the lock is held.
func (s *Server) touch() {
	s.seq++
	close(s.changed)
	s.changed = make(chan struct{})
}

// directoryChanged is touch for changes that alter how names show in messages.
func (s *Server) directoryChanged() {
	s.renderEpoch++
	s.touch()
}

func requireLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("split listen address %q: %w", addr, err)
	}
	if !isLoopbackName(host) {
		return fmt.Errorf("listen address %q is not loopback: the emulator has no authentication", addr)
	}
	return nil
}

func isLoopbackName(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

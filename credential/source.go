package credential

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"countersign/egress"
)

const (
	defaultTimeout = 10 * time.Second
	// settled is how old a value must be to be dropped because it was refused: an upstream that
	// refuses everything must not have us run a program for every call.
	settled = 10 * time.Second
	// maxKept bounds how many values are kept at a time.
	maxKept = 1000
)

// Config says how a Source works.
type Config struct {
	// Timeout bounds one run of a program. Zero: 10 s.
	Timeout time.Duration
	// Now is required; it measures how old a value is.
	Now func() time.Time
}

// Command is a program that prints a credential.
type Command struct {
	// Argv is the program, found like a shell would find it, and its arguments. No shell is run.
	Argv []string
	// Prefix goes before what it prints.
	Prefix string
	// Cache is for how long what it printed is used again. Zero: for those who are waiting for
	// it already, and not beyond.
	Cache time.Duration
}

func (c Command) key() string { return strings.Join(c.Argv, "\x00") }

// Source gets credentials from programs. It is safe for concurrent use.
type Source struct {
	timeout time.Duration
	now     func() time.Time

	mu   sync.Mutex
	kept map[string]*reading
}

// reading is one run of a program. The fields but done are set before done is closed.
type reading struct {
	done  chan struct{}
	value string
	err   error
	at    time.Time // when it was read
}

// New returns a Source, or an error that names the missing field.
func New(c Config) (*Source, error) {
	if c.Now == nil {
		return nil, errors.New("credential.New: Now is required")
	}
	return &Source{timeout: cmp.Or(c.Timeout, defaultTimeout), now: c.Now, kept: make(map[string]*reading)}, nil
}

// Read returns what a program prints, with the prefix before it. A program runs once at a
// time, however many ask for it; whoever gives up waiting, by ctx, leaves it to the others.
// Every error is an ErrUnavailable, which ctx's ending is as well; failures are not kept.
func (s *Source) Read(ctx context.Context, c Command) (egress.Secret, error) {
	r := s.reading(ctx, c)
	select {
	case <-r.done:
	case <-ctx.Done():
		return egress.Secret{}, errors.Join(ErrUnavailable, ctx.Err())
	}
	if r.err != nil {
		return egress.Secret{}, r.err
	}
	return egress.NewSecret(c.Prefix + r.value), nil
}

// reading is the one to wait for: one that is kept or under way, or a new one.
func (s *Source) reading(ctx context.Context, c Command) *reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.kept[c.key()]; ok && r.good(s.now(), c.Cache) {
		return r
	}
	s.makeRoom()
	r := &reading{done: make(chan struct{})}
	s.kept[c.key()] = r
	go s.read(context.WithoutCancel(ctx), c, r)
	return r
}

// good reports whether a reading may be used: it is under way, or young enough.
func (r *reading) good(now time.Time, cache time.Duration) bool {
	select {
	case <-r.done:
		return r.err == nil && now.Sub(r.at) < cache
	default:
		return true
	}
}

// makeRoom drops what is kept where there is too much of it; those who wait keep their own.
func (s *Source) makeRoom() {
	if len(s.kept) >= maxKept {
		s.kept = make(map[string]*reading)
	}
}

func (s *Source) read(ctx context.Context, c Command, r *reading) {
	defer close(r.done)
	r.value, r.err = run(ctx, c.Argv, s.timeout)
	r.at = s.now()
}

// Refused says that an upstream did not accept what a program printed. If that was kept for a
// while, it is read anew for the next call: it may have been replaced before its time.
func (s *Source) Refused(c Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.kept[c.key()]
	if !ok {
		return
	}
	select {
	case <-r.done:
		if s.now().Sub(r.at) >= settled {
			delete(s.kept, c.key())
		}
	default:
	}
}

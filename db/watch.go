package db

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

const (
	// channel carries the ids of changed tickets between processes.
	channel = "countersign_tickets"
	// announceEvery is how long ids are gathered before one notification carries them
	// all. A notification per transaction would take a lock that is global to Postgres
	// at each commit.
	announceEvery = 10 * time.Millisecond
	// maxPayload keeps a notification below Postgres's limit of 8,000 bytes.
	maxPayload = 7900
	// lookAgain is how often all that is waited for is read again, should a notification be
	// lost.
	lookAgain = 5 * time.Second
)

// watch hands changes on: to those who wait in this process at once, and to other
// processes through one coalesced notification.
type watch struct {
	hub  *hub
	self string // begins what this process announces

	mu     sync.Mutex
	all    map[chan string]struct{}
	dirty  map[string]struct{}
	kick   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newWatch() *watch {
	w := &watch{
		self: "@" + rand.Text(), all: make(map[chan string]struct{}),
		dirty: make(map[string]struct{}), kick: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	w.hub = newHub(w.closed)
	return w
}

func (w *watch) close() { w.once.Do(func() { close(w.closed) }) }

// moved wakes those who wait for a ticket in this process, which need not read it again,
// and queues its id for the other processes.
func (w *watch) moved(t approvals.Ticket) {
	w.hub.learn(changeOf(t))
	w.tell(t.ID)
	w.queue(t.ID)
}

// changed is moved for a ticket of which no more is known than that it has changed.
func (w *watch) changed(id string) {
	w.hub.heard(id)
	w.tell(id)
	w.queue(id)
}

func (w *watch) queue(id string) {
	w.mu.Lock()
	w.dirty[id] = struct{}{}
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *watch) tell(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.all {
		select {
		case ch <- id:
		default: // a slow subscriber loses wake-ups, never the truth, which it reads itself
		}
	}
}

// Wait returns nil as soon as the ticket has passed version, or when the store closes; the
// caller reads again. It returns ctx's error when that ends first, and one with
// CodeNotFound when there is no such ticket.
func (s *Store) Wait(ctx context.Context, id string, version int64) error {
	sub := s.Subscribe(Topic{Ticket: id})
	defer sub.Close()
	// Looked up after subscribing: a change in between is either seen here or wakes us.
	now, _, err := s.Version(ctx, Ref{ID: id})
	if err != nil || now > version {
		return err
	}
	if _, err := sub.Next(ctx, version); !errors.Is(err, ErrUnavailable) {
		return err
	}
	return nil
}

// Changes sends the ids of tickets that have changed, in this process or another, until
// ctx ends. A subscriber that falls behind misses ids.
func (s *Store) Changes(ctx context.Context) <-chan string {
	ch := make(chan string, 1024)
	s.watch.mu.Lock()
	s.watch.all[ch] = struct{}{}
	s.watch.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.watch.mu.Lock()
		delete(s.watch.all, ch)
		close(ch)
		s.watch.mu.Unlock()
	})
	return ch
}

// announce tells other processes what changed, many ids at a time.
func (s *Store) announce(ctx context.Context) {
	timer := time.NewTimer(announceEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.watch.kick:
		}
		timer.Reset(announceEvery)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for _, payload := range s.watch.payloads() {
			if err := s.notify(ctx, payload); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "cannot announce changes; other processes will look for themselves", slog.Any("error", err))
			}
		}
	}
}

// notify is bounded: what it says is of no use any more once the others have looked.
func (s *Store) notify(ctx context.Context, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	_, err := s.pool.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, payload)
	return err
}

func (w *watch) payloads() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	var b strings.Builder
	for id := range w.dirty {
		if b.Len() == 0 {
			b.WriteString(w.self) // processes that do not know this mark take it for an id of nothing
		}
		if b.Len()+len(id)+1 > maxPayload {
			out = append(out, b.String())
			b.Reset()
			b.WriteString(w.self)
		}
		b.WriteByte(',')
		b.WriteString(id)
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	clear(w.dirty)
	return out
}

// Listen wakes those who wait in this process for changes made by others, on one connection
// for the whole process, until ctx ends. It reconnects by itself, and then has everything
// that is waited for read again.
func (s *Store) Listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.listen(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "lost the connection for change notifications", slog.Any("error", err))
			pause(ctx, time.Second)
		}
	}
}

func (s *Store) listen(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig.Copy())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // going away
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.watch.hub.doubt() // nobody told us what happened while we were not listening
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait for notification: %w", err)
		}
		if strings.HasPrefix(n.Payload, s.watch.self) {
			continue // our own, known since the commit
		}
		for id := range strings.SplitSeq(n.Payload, ",") {
			if strings.HasPrefix(id, "@") {
				continue // who says so
			}
			s.watch.hub.heard(id)
			s.watch.tell(id)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

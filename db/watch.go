package db

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
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
	// lookAgain is how often a waiter looks for itself, should a notification be lost.
	lookAgain = 5 * time.Second
)

// watch wakes those who wait for a ticket, in this process at once and in others
// through one coalesced notification.
type watch struct {
	mu      sync.Mutex
	waiters map[string]map[chan struct{}]struct{}
	all     map[chan string]struct{}
	dirty   map[string]struct{}
	kick    chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func newWatch() *watch {
	return &watch{
		waiters: make(map[string]map[chan struct{}]struct{}), all: make(map[chan string]struct{}),
		dirty: make(map[string]struct{}), kick: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

func (w *watch) close() { w.once.Do(func() { close(w.closed) }) }

// changed wakes local waiters and queues the id for the other processes.
func (w *watch) changed(id string) {
	w.wake(id)
	w.mu.Lock()
	w.dirty[id] = struct{}{}
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *watch) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.waiters[id] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	for ch := range w.all {
		select {
		case ch <- id:
		default: // a slow subscriber loses wake-ups, never the truth, which it reads itself
		}
	}
}

func (w *watch) add(id string) chan struct{} {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiters[id] == nil {
		w.waiters[id] = make(map[chan struct{}]struct{})
	}
	w.waiters[id][ch] = struct{}{}
	return ch
}

func (w *watch) remove(id string, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiters[id], ch)
	if len(w.waiters[id]) == 0 {
		delete(w.waiters, id)
	}
}

// Wait returns nil as soon as the ticket may have passed version, or when the store
// closes; the caller reads again. It returns ctx's error when that ends first.
func (s *Store) Wait(ctx context.Context, id string, version int64) error {
	ch := s.watch.add(id)
	defer s.watch.remove(id, ch)
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		// Looked up after registering: a change in between is either seen here or wakes us.
		now, _, err := s.Version(ctx, Ref{ID: id})
		if err != nil || now > version {
			return err
		}
		select {
		case <-ch:
		case <-ticker.C:
		case <-s.watch.closed:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for ticket: %w", ctx.Err())
		}
	}
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
		if b.Len()+len(id)+1 > maxPayload {
			out = append(out, b.String())
			b.Reset()
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(id)
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	clear(w.dirty)
	return out
}

// Listen wakes waiters of this process for changes made by others, on one connection
// for the whole process, until ctx ends. It reconnects by itself.
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
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait for notification: %w", err)
		}
		for id := range strings.SplitSeq(n.Payload, ",") {
			s.watch.wake(id)
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

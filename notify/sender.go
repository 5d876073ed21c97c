package notify

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"countersign/db"
	"countersign/slack"
)

// ErrOver means that a message has become pointless: it is dropped.
var ErrOver = errors.New("there is no point in it any more")

// Content says what a message holds, from the state of now. It is called shortly before each
// call to Slack and never within a transaction. It is an interface because the sender is
// below whoever plans what is sent.
type Content interface {
	// Post renders a message to be posted. [ErrOver] drops it; an [*Undeliverable] gives it up.
	Post(ctx context.Context, p db.Post) (Outgoing, error)
	// Card renders what a card is to show, for an update.
	Card(ctx context.Context, c db.Card) (Outgoing, error)
	// Home renders a home tab. [ErrOver]: it stays as it is.
	Home(ctx context.Context, h db.Home) (slack.HomeView, error)
	// Dead plans what happens instead of a post that Slack will never take. It is called before
	// the post is given up, so it may be called again, and doing it twice is doing it once.
	Dead(ctx context.Context, p db.Post, reason string) error
}

// Outgoing is a message as it goes out.
type Outgoing struct {
	Message slack.Message
	// ThreadTS posts it below that message of the post's card. Zero: into the conversation.
	ThreadTS string
	// Broadcast shows a message of a thread in the channel too.
	Broadcast bool
	// Version of the ticket that it shows.
	Version int64
	// Keep says that it can be decided on: what was shown is kept.
	Keep bool
	// Priority of it, as of [db.Post]. The order of calls follows that of the post.
	Priority int
	// Plain is posted where Slack takes the blocks for invalid. Nil: the text alone.
	Plain func() slack.Message
}

// SenderConfig says what a [Sender] works with.
type SenderConfig struct {
	// Store holds what is owed. Required.
	Store *db.Store
	// Client calls Slack. Required. Its timeout must be below half of CallLease.
	Client *slack.Client
	// Content renders the messages. Required.
	Content Content
	// Limits on calls; the zero value keeps Slack's.
	Limits Limits
	// Now is the clock of limits and leases. Required.
	Now func() time.Time
	// Logger: nil means slog.Default().
	Logger *slog.Logger
	// Name tells this process from others, and stands in the trail of a ticket. Zero: a random
	// one.
	Name string
	// Lease is how long another process waits for this one when it does not say anything more.
	// Zero: 6 s, so that another has taken over within ten.
	Lease time.Duration
	// CallLease is how long a message is this process's while it is being sent. Zero: 30 s.
	CallLease time.Duration
	// Settle is how long after a post Slack is given before it counts as not there. Zero: 30 s.
	Settle time.Duration
	// Poll is how often the tables are looked at without a Wake. Zero: 1 s.
	Poll time.Duration
	// Pause is how long the breaker stays open the first time, twice as long every time after,
	// and LongestPause how long at most, which is also how often it is tried whether what an
	// operator had to do is done. Zero: 5 s and a minute.
	Pause, LongestPause time.Duration
	// InFlight is how many calls run at once. Zero: 8.
	InFlight int
}

// Sender brings to Slack what is owed to it: posts, each once as far as can be known, updates
// of cards, and home tabs. Of all processes that run one, one sends at a time. It is safe for
// concurrent use.
type Sender struct {
	c       SenderConfig
	log     *slog.Logger
	limiter *limiter
	breaker *breaker
	rooms   *rooms
	woken   chan struct{} // something is owed
	freed   chan struct{} // a call has ended
	slots   chan struct{}
	running sync.WaitGroup

	// Of Run alone.
	pending                []task
	readAt, swept, homesAt time.Time

	mu    sync.Mutex
	held  time.Time // until when this process is the sender
	busy  map[string]bool
	stale bool // pending is older than a Wake
}

// NewSender makes a sender. It does nothing before Run.
func NewSender(c SenderConfig) (*Sender, error) {
	if c.Store == nil || c.Client == nil || c.Content == nil || c.Now == nil {
		return nil, errors.New("notify.NewSender: Store, Client, Content and Now are required")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Name = cmp.Or(c.Name, "sender-"+uuid.NewString()[:8])
	c.Lease = cmp.Or(c.Lease, 6*time.Second)
	c.CallLease = cmp.Or(c.CallLease, 30*time.Second)
	c.Settle = cmp.Or(c.Settle, 30*time.Second)
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.Pause = cmp.Or(c.Pause, 5*time.Second)
	c.LongestPause = cmp.Or(c.LongestPause, time.Minute)
	c.InFlight = cmp.Or(c.InFlight, 8)
	return &Sender{
		c: c, log: c.Logger, limiter: newLimiter(c.Limits), breaker: newBreaker(c.Pause, c.LongestPause), rooms: newRooms(c.Client, c.Now),
		woken: make(chan struct{}, 1), freed: make(chan struct{}, 1), slots: make(chan struct{}, c.InFlight), busy: map[string]bool{},
	}, nil
}

// Run sends until ctx ends, then waits for the calls that are under way and hands the task
// over. It returns nil; what goes wrong is logged, and tried again.
func (s *Sender) Run(ctx context.Context) error {
	var lease sync.WaitGroup
	lease.Go(func() { s.keepLease(ctx) })
	for ctx.Err() == nil {
		s.rest(ctx, s.pass(ctx))
	}
	s.running.Wait()
	lease.Wait()
	s.leave(ctx)
	return nil
}

// Wake says that something new is owed. Without it that is found within Poll.
func (s *Sender) Wake() {
	s.mu.Lock()
	s.stale = true
	s.mu.Unlock()
	signal(s.woken)
}

// Trip stops all calls until auth.test succeeds, which is tried every minute: for what Slack
// says by another way, such as that its tokens were revoked.
func (s *Sender) Trip(reason string) {
	if s.breaker.trip(s.c.Now(), reason) {
		s.log.Error("slack is not called any more until an operator has seen to it", slog.String("reason", reason))
	}
	signal(s.woken)
}

// Status says whether anything is sent, and if not, why.
func (s *Sender) Status() db.SenderStatus { return s.breaker.is() }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// rest waits until there may be something to do, at most for wait.
func (s *Sender) rest(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-s.woken:
	case <-s.freed:
	}
}

// task is one thing to do, with at most one call to Slack.
type task struct {
	// key is what only one call at a time may be about.
	key string
	// method and room are what the limiter counts. No method: no call is expected.
	method, room string
	priority     int
	// do does it. It reports whether a call was made.
	do func(context.Context) (called bool)
}

// pass starts what may be done now, and says how long nothing more can be.
func (s *Sender) pass(ctx context.Context) time.Duration {
	if !s.leads() {
		return s.c.Poll
	}
	if wait, open := s.breaker.wait(s.c.Now()); open {
		if wait > 0 {
			return min(wait, s.c.Poll)
		}
		return s.probe(ctx)
	}
	s.sweep(ctx)
	if err := s.read(ctx); err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "what is owed to slack cannot be read", slog.Any("error", err))
		}
		return s.c.Poll
	}
	return s.begin(ctx)
}

const (
	// roomTurn is how many posts for one destination are looked at together.
	roomTurn = 16
	// readAtOnce bounds what is read of each kind.
	readAtOnce = 200
)

// read fills pending with what is due, unless what is there is young enough.
func (s *Sender) read(ctx context.Context) error {
	now := s.c.Now()
	if !s.isStale() && len(s.pending) > 0 && now.Sub(s.readAt) < s.c.Poll/2 {
		return nil
	}
	posts, err := s.c.Store.DuePosts(ctx, roomTurn, readAtOnce)
	if err != nil {
		return err
	}
	places, err := s.c.Store.DuePlaces(ctx, readAtOnce)
	if err != nil {
		return err
	}
	s.readAt, s.pending = now, s.pending[:0]
	for _, p := range posts {
		s.pending = append(s.pending, s.postTask(p))
	}
	for _, p := range places {
		s.pending = append(s.pending, s.placeTask(p))
	}
	slices.SortStableFunc(s.pending, func(a, b task) int { return cmp.Compare(a.priority, b.priority) })
	return nil
}

// isStale reports whether something new has come since it was asked last.
func (s *Sender) isStale() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stale := s.stale
	s.stale = false
	return stale
}

// begin starts what is pending, as far as the limits, the number of calls and the order of
// each conversation allow, and home tabs after everything else.
func (s *Sender) begin(ctx context.Context) time.Duration {
	wait, left := s.c.Poll, s.pending[:0]
	for _, t := range s.pending {
		if w := s.start(ctx, t); w > 0 {
			wait, left = min(wait, w), append(left, t)
		}
	}
	s.pending = left
	return min(wait, s.beginHomes(ctx))
}

// start starts a task now, and answers zero, or says when it may be worth trying again.
func (s *Sender) start(ctx context.Context, t task) time.Duration {
	if _, open := s.breaker.wait(s.c.Now()); open || !s.leads() || !s.enter(t.key) {
		return s.c.Poll // the end of another call says when sooner
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.exit(t.key)
		return s.c.Poll
	}
	if wait := s.limiter.take(s.c.Now(), t.method, t.room); wait > 0 {
		<-s.slots
		s.exit(t.key)
		return wait
	}
	s.running.Go(func() {
		// A call under way is not cut off when the process stops: its outcome would be unknown.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.c.CallLease)
		defer cancel()
		if !t.do(ctx) {
			s.limiter.giveBack(t.method, t.room)
		}
		<-s.slots
		s.exit(t.key)
		signal(s.freed)
	})
	return 0
}

func (s *Sender) enter(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[key] {
		return false
	}
	s.busy[key] = true
	return true
}

func (s *Sender) exit(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, key)
}

// sweep takes up, now and then, what a sender that is no more has left behind.
func (s *Sender) sweep(ctx context.Context) {
	now := s.c.Now()
	if now.Sub(s.swept) < s.c.Poll {
		return
	}
	s.swept = now
	n, err := s.c.Store.AbandonedPosts(ctx)
	if err != nil || n > 0 {
		s.log.WarnContext(ctx, "posts of a sender that was not heard of again", slog.Int64("posts", n), slog.Any("error", err))
	}
}

// probe finds out whether the breaker may close.
func (s *Sender) probe(ctx context.Context) time.Duration {
	_, err := s.c.Client.Auth(ctx)
	if s.breaker.probed(s.c.Now(), err) {
		s.log.InfoContext(ctx, "slack is called again")
	}
	s.publish(ctx)
	return 0
}

// answered takes note of how a call went, for all that come after it.
func (s *Sender) answered(ctx context.Context, err error) {
	var e *slack.Error
	now := s.c.Now()
	if !errors.As(err, &e) {
		s.breaker.succeeded()
		return
	}
	switch e.Class {
	case slack.App:
		if s.breaker.trip(now, e.Method+": "+e.Code) {
			s.log.ErrorContext(ctx, "slack is not called any more until an operator has seen to it",
				slog.String("method", e.Method), slog.String("code", e.Code), slog.Any("details", e.Details))
		}
		s.publish(ctx)
	case slack.RateLimited:
		s.limiter.gate(now, bucketOf(e.Method), e.RetryAfter)
		if e.Method == methodPost && (e.Code == "http_429" || e.Code == "message_limit_exceeded") {
			s.limiter.slowDown(now)
			s.log.ErrorContext(ctx, "the workspace has too many messages", slog.String("code", e.Code))
		}
	case slack.Retryable, slack.Ambiguous:
		if s.breaker.failed(now, e) {
			s.log.ErrorContext(ctx, "slack does not answer", slog.String("method", e.Method), slog.String("code", e.Code))
			s.publish(ctx)
		}
	case slack.Permanent:
		s.breaker.succeeded()
	}
}

// bucketOf is what a method is counted as: all that serves the search for a message counts as
// one.
func bucketOf(method string) string {
	if _, own := methodRates[method]; own {
		return method
	}
	return methodHistory
}

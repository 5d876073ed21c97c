package directory

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

const (
	// task is done by one process at a time, which has it for taskLease from look to look.
	task      = "directory"
	taskLease = 20 * time.Second
	// overlap is how far back the others look: longer than a question to Slack and the way
	// of its answer into the database take.
	overlap = flightFor + 10*time.Second
	// turnFor bounds one look.
	turnFor = 30 * time.Second
	// tryAgain is how long an account is left alone that was asked about to no avail, so that
	// the others have their turn; lookAgain an address that was nobody's.
	tryAgain  = time.Minute
	lookAgain = 10 * time.Minute
	// keptFor is how long facts are kept that nobody reads again.
	keptFor     = 30 * 24 * time.Hour
	forgetEvery = time.Hour
)

// Run keeps the facts current until ctx ends: one process at a time reads them from Slack,
// the others from the database. Every process needs it.
func (s *Source) Run(ctx context.Context) {
	if s.c.Client == nil {
		return
	}
	tick := time.NewTicker(s.c.Every)
	defer tick.Stop()
	defer s.retire(context.WithoutCancel(ctx))
	warm := s.Load(ctx) == nil
	s.turn(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-s.notices:
			s.reread(ctx, n)
		case <-tick.C:
			if !warm {
				warm = s.Load(ctx) == nil
			}
			s.turn(ctx)
		}
	}
}

// retire lets another process go on at once.
func (s *Source) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.c.Store.LeaveLease(ctx, task, s.holder); err != nil {
		s.c.Logger.DebugContext(ctx, "another process has to wait before it reads from slack", slog.Any("error", err))
	}
}

// turns is what a look needs to know of those before it. Only Run uses it.
type turns struct {
	notBefore time.Time            // Slack wants to be left alone until then
	forgetAt  time.Time            // when old facts are dropped again
	tried     map[string]time.Time // when accounts and addresses were asked about
}

// turn is one look.
func (s *Source) turn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, turnFor)
	defer cancel()
	mine, err := s.c.Store.HoldLease(ctx, task, s.holder, taskLease)
	if err == nil {
		err = s.recall(ctx, overlap+s.c.Every)
	}
	if err == nil && mine {
		err = errors.Join(s.refresh(ctx), s.forget(ctx))
	}
	if err != nil && ctx.Err() == nil {
		s.c.Logger.WarnContext(ctx, "cannot keep what slack says of people current", slog.Any("error", err))
	}
}

// refresh reads the user groups when that is due, and at most one person.
func (s *Source) refresh(ctx context.Context) error {
	if s.c.Now().Before(s.turns.notBefore) {
		return nil
	}
	var errs []error
	if s.groupsDue() {
		errs = append(errs, s.readGroups(ctx))
	}
	if id := s.nextUser(); id != "" {
		s.turns.try(id, s.c.Now())
		errs = append(errs, s.readUser(ctx, id))
	} else if email := s.nextAddress(); email != "" {
		s.turns.try(email, s.c.Now())
		errs = append(errs, s.readAddress(ctx, email))
	}
	err := errors.Join(errs...)
	var said *slack.Error
	if errors.As(err, &said) {
		s.turns.notBefore = s.c.Now().Add(max(said.RetryAfter, 2*s.c.Every))
	}
	return err
}

// forget drops what nobody has wanted to know for long.
func (s *Source) forget(ctx context.Context) error {
	if s.c.Now().Before(s.turns.forgetAt) {
		return nil
	}
	s.turns.forgetAt = s.c.Now().Add(forgetEvery)
	return s.c.Store.ForgetSlackFacts(ctx, keptFor)
}

func (t *turns) try(what string, now time.Time) {
	if t.tried == nil || len(t.tried) > maxUsers {
		t.tried = map[string]time.Time{}
	}
	t.tried[what] = now
}

// rests reports whether something was asked about within a time.
func (t *turns) rests(what string, now time.Time, within time.Duration) bool {
	at, tried := t.tried[what]
	return tried && now.Sub(at) < within
}

func (s *Source) groupsDue() bool {
	return slices.ContainsFunc(s.c.Policy().UserGroups(), func(id string) bool {
		age, known := s.memory.age(key{ofGroup, id})
		return !known || age >= s.c.GroupsEvery
	})
}

var accountID = regexp.MustCompile(`^[UW][A-Z0-9]{1,63}$`)

// watched are the accounts that somebody relies on: those that people have, and, where
// addresses count, the members of user groups, who may turn out to be people.
func (s *Source) watched() []string {
	config := s.Policy()
	var out []string
	for _, p := range config.People {
		for _, id := range append([]string{p.Slack}, p.Accounts...) {
			if accountID.MatchString(id) {
				out = append(out, id)
			}
		}
	}
	if config.Slack.MatchEmail {
		for _, id := range config.UserGroups() {
			out = append(out, s.memory.facts().Groups[id].Members...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// nextUser is the account of whom nothing is known, or that has not been read for the
// longest time, if for long enough. "" for nobody.
func (s *Source) nextUser() string {
	next, oldest := "", s.c.UsersEvery
	for _, id := range s.watched() {
		age, known := s.memory.age(key{ofUser, id})
		if s.turns.rests(id, s.c.Now(), min(tryAgain, s.c.UsersEvery)) {
			continue
		}
		if !known {
			return id
		}
		if age >= oldest {
			next, oldest = id, age
		}
	}
	return next
}

// nextAddress is an address of somebody who has no account yet, where addresses count.
func (s *Source) nextAddress() string {
	config := s.Policy()
	if !config.Slack.MatchEmail {
		return ""
	}
	for _, p := range config.People {
		_, domain, _ := strings.Cut(p.Email, "@")
		if p.Slack != "" || !slices.Contains(config.Slack.EmailDomains, strings.ToLower(domain)) {
			continue
		}
		if !s.turns.rests(p.Email, s.c.Now(), lookAgain) {
			return p.Email
		}
	}
	return ""
}

// readAddress asks Slack whose an address is. Whether that makes a difference is for the
// policy to say.
func (s *Source) readAddress(ctx context.Context, email string) error {
	asked := s.c.Now()
	got, err := s.c.Client.UserByEmail(ctx, email)
	if err != nil {
		if isUnknown(err) {
			return nil
		}
		return err
	}
	s.learn(ctx, asked, []policy.SlackUser{userOf(got)}, nil)
	return nil
}

// notice says that Slack's events spoke of somebody or something.
type notice struct{ key key }

// UserChanged says that an account is not what it was. What is known of it is too old from
// now on; if people have it, it is read again soon. It does not wait for that.
func (s *Source) UserChanged(ctx context.Context, id string) {
	k := key{ofUser, id}
	if _, known := s.memory.age(k); !known {
		return // most members of a workspace are nobody to us, and their status changes all the time
	}
	s.changed(ctx, k, userFlight(id))
}

// GroupChanged says that a user group is not what it was, as [Source.UserChanged] does of
// an account.
func (s *Source) GroupChanged(ctx context.Context, id string) {
	if slices.Contains(s.c.Policy().UserGroups(), id) {
		s.changed(ctx, key{ofGroup, id}, groupFlight)
	}
}

func (s *Source) changed(ctx context.Context, k key, flight string) {
	s.memory.outdate(k)
	s.flights.leave(flight)
	select {
	case s.notices <- notice{k}:
	default: // it is read when somebody needs it
		s.c.Logger.DebugContext(ctx, "slack speaks of more changes than can be looked at", slog.String("id", k.id))
	}
}

// reread asks for what has changed, and tells other processes that it has in any case.
func (s *Source) reread(ctx context.Context, n notice) {
	kind := db.SlackUsers
	if n.key.kind == ofGroup {
		kind = db.SlackGroups
	} else if !slices.Contains(s.watched(), n.key.id) {
		return
	}
	if s.memory.fresh(n.key, MaxAge) {
		return // somebody needed it meanwhile
	}
	err := s.readOne(ctx, n.key)
	if err != nil {
		err = errors.Join(err, s.c.Store.OutdateSlackFact(ctx, kind, n.key.id))
	}
	if err != nil && ctx.Err() == nil {
		s.c.Logger.WarnContext(ctx, "cannot read from slack what has changed", slog.String("id", n.key.id), slog.Any("error", err))
	}
}

package directory

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

// MaxAge is how old facts may be that a decision rests on.
const MaxAge = 30 * time.Second

// ErrStale means that Slack could not be asked in time, so that nothing may be decided.
var ErrStale = errors.New("what slack says of people is too old to rely on")

// Config makes a [Source].
type Config struct {
	// Store keeps the facts. Required.
	Store *db.Store
	// Client asks Slack. Nil: there is no Slack, and no fact is ever fresh.
	Client *slack.Client
	// Policy returns the configuration in force. It must return the same pointer as long as
	// that is the same. Required.
	Policy func() *policy.Config
	// Changed is called when the facts make a difference to who may decide, so that whoever
	// has judged by them can do so again. It must not block. Nil: nobody is interested.
	Changed func()
	// ClickBudget bounds [Source.Fresh], ClaimBudget [Source.FreshFor]. Zero: 1.2 s and 5 s.
	ClickBudget, ClaimBudget time.Duration
	// Every is the pause between two looks of [Source.Run], at each of which at most one
	// person is read. Zero: 3 s.
	Every time.Duration
	// GroupsEvery is how old user groups may become before they are read again without
	// anybody asking, UsersEvery people. Zero: 20 s and 5 min.
	GroupsEvery, UsersEvery time.Duration
	// Now is the clock that ages are counted on with. Required.
	Now func() time.Time
	// Logger: nil means slog.Default().
	Logger *slog.Logger
}

// Source is the directory. It is safe for concurrent use.
type Source struct {
	c       Config
	holder  string
	memory  *memory
	flights flights
	turns   turns
	notices chan notice

	joining sync.Mutex // makes one configuration at a time
	joined  atomic.Pointer[joined]

	channels channels
}

// joined is a configuration with facts.
type joined struct {
	base  *policy.Config
	facts *policy.Facts
	// exact is the configuration with these facts, with the one that says the same of who may
	// decide, and may be older.
	exact, with *policy.Config
}

// New returns a source that knows nothing yet; see [Source.Load].
func New(c Config) (*Source, error) {
	if c.Store == nil || c.Policy == nil || c.Now == nil {
		return nil, errors.New("directory.New: Store, Policy and Now are required")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	c.ClickBudget = cmp.Or(c.ClickBudget, 1200*time.Millisecond)
	c.ClaimBudget = cmp.Or(c.ClaimBudget, 5*time.Second)
	c.Every = cmp.Or(c.Every, 3*time.Second)
	c.GroupsEvery = cmp.Or(c.GroupsEvery, 20*time.Second)
	c.UsersEvery = cmp.Or(c.UsersEvery, 5*time.Minute)
	var id [8]byte
	rand.Read(id[:])
	return &Source{
		c: c, holder: "directory_" + hex.EncodeToString(id[:]), memory: newMemory(c.Now), notices: make(chan notice, 256),
	}, nil
}

// Policy returns the configuration in force with the last known facts, however old they
// are. It is cheap, and returns the same pointer until another configuration is in force or
// the facts make a difference to it.
func (s *Source) Policy() *policy.Config { return s.join().with }

// Known is [Source.Policy] with all that Slack has said, of whoever it is: what
// [policy.Config.SlackUser] is asked of. It is another one whenever Slack says something new.
func (s *Source) Known() *policy.Config { return s.join().exact }

// join completes the configuration in force with the last known facts.
func (s *Source) join() *joined {
	if j := s.current(); j != nil {
		return j
	}
	s.joining.Lock()
	defer s.joining.Unlock()
	if j := s.current(); j != nil {
		return j
	}
	before := s.joined.Load()
	// The facts are read after the configuration: what Fresh has just put there is in it.
	j := &joined{base: s.c.Policy(), facts: s.memory.facts()}
	j.exact = j.base.With(*j.facts)
	j.with = j.exact
	if before != nil && before.base == j.base && alike(before.with.Directory(), j.with.Directory()) {
		j.with = before.with // open tickets are judged again whenever this changes
	}
	s.joined.Store(j)
	return j
}

// alike compares two directories of one configuration.
func alike(a, b approvals.Directory) bool {
	return reflect.DeepEqual(a.People, b.People) && reflect.DeepEqual(a.Groups, b.Groups) && maps.Equal(a.Inactive, b.Inactive)
}

func (s *Source) current() *joined {
	j := s.joined.Load()
	if j == nil || j.base != s.c.Policy() || j.facts != s.memory.facts() {
		return nil
	}
	return j
}

// User returns the last that Slack said of an account. False: nothing is known.
func (s *Source) User(id string) (policy.SlackUser, bool) {
	u, ok := s.memory.facts().Users[id]
	return u, ok
}

// Load reads the facts that are kept, so that a start is warm.
func (s *Source) Load(ctx context.Context) error { return s.recall(ctx, 0) }

package interact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

// Slack gives up on an answer after 3 s, the way to us and back included.
const ackBudget = 2 * time.Second

// Config says what a Desk works with.
type Config struct {
	// Store keeps the tickets. Required.
	Store *db.Store
	// Policy returns the configuration in force with the last known facts of Slack. Required.
	Policy func() *policy.Config
	// Fresh returns the configuration with facts that are at most 30 s old, of these people
	// and user groups at least, or an error when Slack could not be asked in time. Required.
	Fresh func(ctx context.Context, need FreshNeed) (*policy.Config, error)
	// Verifier tells Slack's requests from everybody else's. Nil: HTTP is refused.
	Verifier *slack.Verifier
	// Client opens dialogs and answers people. Required.
	Client *slack.Client
	// FingerprintKey is what [approvals.Fingerprint] is made under. Empty: no fingerprints are
	// shown, and what wants one typed cannot be approved.
	FingerprintKey []byte
	// PublicURL is where links lead: what cards are rendered with, too. Empty: no links.
	PublicURL string
	// Facts is told which of Slack's facts have changed. Nil: nobody is.
	Facts FactKeeper
	// Channels is told what became of channels. Nil: nobody is.
	Channels ChannelKeeper
	// Alarm is told, in a few words, that Slack takes nothing from us any more. Nil: only the
	// log is.
	Alarm func(ctx context.Context, what string)
	// Budget is how long Slack waits at most for an answer of ours. Three fifths of it are for
	// carrying a request out, of which two for asking Slack who somebody is; the rest is for
	// telling the person. Zero: 2 s.
	Budget time.Duration
	// Now is the clock that bounds how often forgeries are logged. Required.
	Now func() time.Time
	// Logger takes one line a request. Nil: slog.Default().
	Logger *slog.Logger
}

// FreshNeed names facts of Slack that a decision depends on, each once.
type FreshNeed struct {
	// Users are Slack user ids, Groups ids of user groups.
	Users, Groups []string
}

// FactKeeper reads again what Slack says of somebody or something. It does not wait for that.
// It is an interface to keep this package beside the one that does it.
type FactKeeper interface {
	UserChanged(ctx context.Context, id string)
	GroupChanged(ctx context.Context, id string)
}

// ChannelKeeper finds another place for what can no longer be posted to a channel, by its id.
// It is an interface to keep this package beside the one that does it.
type ChannelKeeper interface {
	ChannelGone(ctx context.Context, id, reason string) error
	ChannelRenamed(ctx context.Context, from, to string) error
}

// Desk takes what Slack sends. It is safe for concurrent use.
type Desk struct {
	c       Config
	forgers *rate.Limiter
	links   permalinks
}

// New makes a desk, or names the required fields that are missing.
func New(c Config) (*Desk, error) {
	var errs []error
	for name, missing := range map[string]bool{
		"Store": c.Store == nil, "Policy": c.Policy == nil, "Fresh": c.Fresh == nil, "Client": c.Client == nil, "Now": c.Now == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("interact.New: %s is required", name))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Budget = cmp.Or(c.Budget, ackBudget)
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	return &Desk{c: c, forgers: rate.NewLimiter(rate.Every(forgeryEvery), forgeryBurst)}, nil
}

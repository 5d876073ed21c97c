package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"countersign/db"
	"countersign/slack"
)

const (
	// channelAge is how long what Slack says of a channel is good for, goneAge how long that
	// there is none. Every recallAge the database is asked whether another process has heard
	// that it changed.
	channelAge = 10 * time.Minute
	goneAge    = time.Minute
	recallAge  = 30 * time.Second
	// maxChannels bounds how many are remembered.
	maxChannels = 10_000
)

// ErrNoChannel means that Slack knows no channel of that id or name, or none that the bot
// can see.
var ErrNoChannel = errors.New("there is no such channel that the bot can see")

// channels remembers channels by the id or name that they were asked for by.
type channels struct {
	mu    sync.Mutex
	known map[string]seen
}

type seen struct {
	facts slack.ConversationFacts
	gone  bool
	at    time.Time // when it was asked for, or recalled
}

// Channel returns what Slack says of a channel, by its id or #name: of at most ten minutes
// ago. Errors: [ErrNoChannel], which is a [slack.Error] of class Permanent too; otherwise
// Slack could not be asked, and whether there is one is not known.
func (s *Source) Channel(ctx context.Context, name string) (slack.ConversationFacts, error) {
	if got, ok := s.channels.get(name, s.c.Now()); ok {
		return got.result()
	}
	before := s.c.Now()
	rows, err := s.c.Store.SlackFacts(ctx, db.SlackChannels, []string{name})
	if err != nil {
		return slack.ConversationFacts{}, err
	}
	for _, r := range rows {
		var facts slack.ConversationFacts
		if r.Age < channelAge && json.Unmarshal(r.Facts, &facts) == nil && facts.ID != "" {
			s.channels.put(name, seen{facts: facts, at: before})
			return facts, nil
		}
	}
	if s.c.Client == nil {
		return slack.ConversationFacts{}, errNoSlack
	}
	if err := s.flights.join(ctx, "channel "+name, func(ctx context.Context) error { return s.readChannel(ctx, name) }); err != nil {
		return slack.ConversationFacts{}, fmt.Errorf("ask about the channel %s: %w", name, err)
	}
	got, _ := s.channels.get(name, s.c.Now())
	return got.result()
}

func (x seen) result() (slack.ConversationFacts, error) {
	if x.gone || x.facts.ID == "" {
		return slack.ConversationFacts{}, fmt.Errorf("%w: %w", ErrNoChannel, errUnknown)
	}
	return x.facts, nil
}

// errUnknown is what Slack says to a post to such a channel.
var errUnknown = &slack.Error{Class: slack.Permanent, Method: "conversations.info", Code: "channel_not_found"}

func (s *Source) readChannel(ctx context.Context, name string) error {
	asked := s.c.Now()
	facts, err := s.askChannel(ctx, name)
	if errors.Is(err, ErrNoChannel) {
		s.channels.put(name, seen{gone: true, at: asked})
		return nil
	}
	if err != nil {
		return err
	}
	s.channels.put(name, seen{facts: facts, at: asked})
	if err := s.c.Store.PutSlackFacts(ctx, db.SlackChannels, []db.SlackFact{s.row(name, facts, asked)}); err != nil {
		s.c.Logger.WarnContext(ctx, "cannot keep what slack said of a channel", slog.Any("error", err))
	}
	return nil
}

func (s *Source) askChannel(ctx context.Context, name string) (slack.ConversationFacts, error) {
	if plain, named := strings.CutPrefix(name, "#"); named {
		facts, ok, err := s.c.Client.ConversationNamed(ctx, plain)
		if err == nil && !ok {
			err = ErrNoChannel
		}
		return facts, err
	}
	facts, err := s.c.Client.Conversation(ctx, name)
	var said *slack.Error
	if errors.As(err, &said) && said.Code == "channel_not_found" {
		return slack.ConversationFacts{}, ErrNoChannel
	}
	return facts, err
}

// ChannelChanged forgets what is known of a channel, by its id: it was archived, renamed or
// shared.
func (s *Source) ChannelChanged(ctx context.Context, id string) error {
	for _, name := range s.channels.drop(id) {
		s.flights.leave("channel " + name)
	}
	return s.c.Store.OutdateSlackFact(ctx, db.SlackChannels, id)
}

func (c *channels) get(name string, now time.Time) (seen, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.known[name]
	age := recallAge
	if x.gone {
		age = goneAge
	}
	return x, ok && now.Sub(x.at) < age
}

func (c *channels) put(name string, x seen) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxChannels {
		c.known = map[string]seen{}
	}
	c.known[name] = x
}

// drop forgets a channel and returns what it was asked for by.
func (c *channels) drop(id string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{id}
	for name, x := range c.known {
		if x.facts.ID == id || name == id {
			delete(c.known, name)
			names = append(names, name)
		}
	}
	return names
}

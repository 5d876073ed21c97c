package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"countersign/slack/emulator"
)

// channel is where the demo policy asks.
const channel = "C01BILLING"

// people are the Slack ids of the demo.
var people = map[string]string{
	"ana": "U02ANA", "bo": "U02BO", "chen": "U02CHEN", "dev": "U02DEV", "eva": "U02EVA", "gus": "U02GUEST",
}

// The buttons of a card.
const (
	approve    = "cs.approve"
	deny       = "cs.deny"
	ask        = "cs.ask"
	breakGlass = "cs.break_glass"
)

// The inputs of the dialogs.
const (
	reason   = "reason"
	question = "question"
	comment  = "comment"
)

// showLimit is how long Slack may take to show what has happened.
const showLimit = 10 * time.Second

// workspace is the Slack emulator, driven as its page does.
type workspace struct {
	http doer
	base string
}

func (w *workspace) state(ctx context.Context) (emulator.Snapshot, error) {
	return fetch[emulator.Snapshot](ctx, w.http, http.MethodGet, w.base+"/_emulator/state?limit=10000", nil)
}

// shown is a ticket's id as people see it.
func shown(id string) string { return id[:8] + "…" + id[len(id)-4:] }

// mentions is how a card speaks of another ticket than its own.
var mentions = regexp.MustCompile(`(Superseded by|takes the place of) tkt_\S+`)

// cards returns the cards of a ticket, oldest first, without what is in their threads.
func (w *workspace) cards(ctx context.Context, id string) ([]emulator.Message, error) {
	s, err := w.state(ctx)
	if err != nil {
		return nil, err
	}
	var out []emulator.Message
	for _, c := range s.Channels {
		for _, m := range c.Messages {
			if c.ID == channel && m.ThreadTS == "" && strings.Contains(mentions.ReplaceAllString(m.Text, ""), shown(id)) {
				out = append(out, m)
			}
		}
	}
	return out, nil
}

// card waits for a ticket's newest card to be the nth and to have buttons or not.
func (w *workspace) card(ctx context.Context, id string, nth int, buttons bool) (m emulator.Message, err error) {
	var all []emulator.Message
	err = until(ctx, showLimit, func(ctx context.Context) (bool, error) {
		all, err = w.cards(ctx, id)
		if err != nil || len(all) < nth {
			return false, err
		}
		m = all[nth-1]
		return len(m.Buttons) > 0 == buttons, nil
	})
	if err != nil {
		return m, fmt.Errorf("wait for card %d of %s (there are %d; this one: %q): %w", nth, id, len(all), m.Text, err)
	}
	return m, nil
}

// click presses a button on a card and confirms.
func (w *workspace) click(ctx context.Context, who string, card emulator.Message, button string) (emulator.Seen, error) {
	return fetch[emulator.Seen](ctx, w.http, http.MethodPost, w.base+"/_emulator/click", emulator.Action{
		User: people[who], Channel: card.Channel, TS: card.TS, ActionID: button, Confirm: true,
	})
}

// fill submits a dialog with a text in its one input.
func (w *workspace) fill(ctx context.Context, who, view, input, text string) (emulator.Seen, error) {
	return fetch[emulator.Seen](ctx, w.http, http.MethodPost, w.base+"/_emulator/views/"+view+"/submit", map[string]any{
		"user": people[who], "values": map[string]map[string]string{input: {"v": text}},
	})
}

// posted returns what a channel shows that holds all of these words.
func (w *workspace) posted(ctx context.Context, name string, words ...string) (out []emulator.Message, err error) {
	s, err := w.state(ctx)
	for _, c := range s.Channels {
		for _, m := range c.Messages {
			if c.Name == name && saysAll(m.Text, words) {
				out = append(out, m)
			}
		}
	}
	return out, err
}

// told returns what only this person has been shown.
func (w *workspace) told(ctx context.Context, who string) (out []string, err error) {
	s, err := w.state(ctx)
	for _, m := range s.Ephemerals {
		if m.EphemeralTo == people[who] {
			out = append(out, m.Text)
		}
	}
	return out, err
}

// invite brings somebody into the channel.
func (w *workspace) invite(ctx context.Context, who string) error {
	s, err := w.state(ctx)
	if err != nil {
		return err
	}
	for _, c := range s.Channels {
		if c.ID == channel {
			c.Members = append(c.Members, people[who])
			_, err := fetch[any](ctx, w.http, http.MethodPost, w.base+"/_emulator/channels", c.Channel)
			return err
		}
	}
	return errors.New("there is no channel " + channel)
}

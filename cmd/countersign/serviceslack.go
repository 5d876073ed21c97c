package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"countersign/approvals"
	"countersign/db"
	"countersign/directory"
	"countersign/egress"
	"countersign/interact"
	"countersign/notify"
	"countersign/policy"
	"countersign/slack"
)

// fingerprintSecret names the key under which people tell requests apart; see
// [approvals.Fingerprint].
const fingerprintSecret = "fingerprint"

// conversation is all that talks with Slack: who is who there (directory), what is told
// there (planner and sender), and what comes from there (desk, over HTTP or a socket).
type conversation struct {
	client   *slack.Client
	verifier *slack.Verifier // nil: Slack comes over a socket, which is authentic as a whole
	tokens   *slack.Tokens   // nil: the bot token does not rotate
	people   *directory.Source
	planner  *notify.Planner
	sender   *notify.Sender
	desk     *interact.Desk
	socket   *slack.Socket // nil: Slack comes over HTTP
	log      *slog.Logger
}

// converse makes the parts, or says what is wrong. Nothing runs yet.
func (s *service) converse(ctx context.Context) (_ *conversation, err error) {
	c := &conversation{log: s.cfg.log}
	if err := c.connect(s); err != nil {
		return nil, fmt.Errorf("slack: %w", err)
	}
	c.people, err = directory.New(directory.Config{
		Store: s.store, Client: c.client, Policy: s.config.inForce, Now: s.cfg.now, Logger: s.cfg.log, Changed: s.judgeAgain,
	})
	if err != nil {
		return nil, err
	}
	if err := c.people.Load(ctx); err != nil {
		return nil, err
	}
	key, err := s.store.Secret(ctx, fingerprintSecret)
	if err != nil {
		return nil, err
	}
	// The planner says what is owed, the sender sends it, and the desk renders home tabs: each
	// needs one of the others once they run.
	c.planner, err = notify.NewPlanner(notify.PlannerConfig{
		Store: s.store, Policy: c.people.Policy, FingerprintKey: key, PublicURL: pageURL, Channels: c.external,
		Home: c.home, Wake: func() { c.sender.Wake() }, Now: s.cfg.now, Logger: s.cfg.log,
	})
	if err != nil {
		return nil, err
	}
	c.sender, err = notify.NewSender(notify.SenderConfig{Store: s.store, Client: c.client, Content: c.planner, Now: s.cfg.now, Logger: s.cfg.log})
	if err != nil {
		return nil, err
	}
	c.desk, err = interact.New(interact.Config{
		Store: s.store, Policy: c.people.Known, Fresh: c.fresh, Verifier: c.verifier, Client: c.client, FingerprintKey: key,
		PublicURL: pageURL, Facts: c.people, Channels: c, Alarm: func(_ context.Context, what string) { c.sender.Trip(what) },
		Now: s.cfg.now, Logger: s.cfg.log,
	})
	return c, err
}

// connect makes what talks to Slack, with the secrets of the configuration in force at each
// moment.
func (c *conversation) connect(s *service) (err error) {
	config := s.cfg.policy.Slack
	token := func(context.Context, slack.Secret) (slack.Secret, error) {
		return slack.Secret(s.config.inForce().Slack.BotToken.Reveal()), nil
	}
	if !config.RefreshToken.IsZero() {
		c.tokens, err = slack.NewTokens(slack.TokensConfig{
			Store: directory.TokenStore(s.store), AppID: config.AppID, ClientID: config.ClientID,
			ClientSecret: slack.Secret(config.ClientSecret.Reveal()), RefreshToken: slack.Secret(config.RefreshToken.Reveal()),
			APIURL: config.APIURL, HTTP: s.cfg.slackHTTP, Now: s.cfg.now, Logger: s.cfg.log,
		})
		if err != nil {
			return err
		}
		token = c.tokens.Token
	}
	c.client, err = slack.New(slack.Config{
		Tokens: token, APIURL: config.APIURL, HTTP: s.cfg.slackHTTP, ResponseHosts: config.ResponseHosts, Logger: s.cfg.log,
	})
	if err != nil {
		return err
	}
	if config.Mode != "socket" {
		c.verifier, err = slack.NewVerifier(slack.VerifierConfig{SigningSecrets: signingSecrets(config), Now: s.cfg.now})
		return err
	}
	plain, secure := egress.SlackSocket(egress.SlackSocketConfig{AllowLoopback: onLoopback(config.APIURL)})
	c.socket, err = slack.NewSocket(slack.SocketConfig{
		AppToken: slack.Secret(config.AppToken.Reveal()), APIURL: config.APIURL, HTTP: s.cfg.slackHTTP, Dial: plain, DialTLS: secure,
		Handle: c.envelope, Now: s.cfg.now, Logger: s.cfg.log,
	})
	return err
}

func signingSecrets(c policy.Slack) (out []slack.Secret) {
	for _, x := range c.SigningSecrets {
		out = append(out, slack.Secret(x.Reveal()))
	}
	return out
}

// reloaded takes over what has changed of the secrets.
func (c *conversation) reloaded(ctx context.Context, config policy.Slack) {
	if c.verifier == nil {
		return
	}
	if err := c.verifier.Rotate(signingSecrets(config)); err != nil {
		c.log.ErrorContext(ctx, "the new signing secrets of Slack cannot be used, the old ones stay in force", slog.Any("error", err))
	}
}

// handler takes what Slack sends over HTTP, which is nothing while it comes over a socket.
func (c *conversation) handler() http.Handler {
	if c.socket != nil {
		return nil
	}
	return c.desk
}

func (c *conversation) home(ctx context.Context, h db.Home) (slack.HomeView, error) {
	return c.desk.Home(ctx, h)
}

func (c *conversation) fresh(ctx context.Context, need interact.FreshNeed) (*policy.Config, error) {
	return c.people.Fresh(ctx, need.Users, need.Groups)
}

// freshFor is [conversation.fresh] for all that the execution of a ticket depends on.
func (c *conversation) freshFor(ctx context.Context, t approvals.Ticket) error {
	_, err := c.people.FreshFor(ctx, t)
	return err
}

// external reports whether a channel is shared with another organisation. One that is not
// there is not: the attempt to post to it says so.
func (c *conversation) external(ctx context.Context, name string) (bool, error) {
	facts, err := c.people.Channel(ctx, name)
	var said *slack.Error
	if errors.As(err, &said) && said.Class == slack.Permanent {
		return false, nil
	}
	return facts.ExternallyShared, err
}

// ChannelGone finds another place for what can no longer be posted to a channel.
func (c *conversation) ChannelGone(ctx context.Context, id, reason string) error {
	return errors.Join(c.people.ChannelChanged(ctx, id), c.planner.ChannelGone(ctx, id, reason))
}

// ChannelRenamed follows a channel that has another id now.
func (c *conversation) ChannelRenamed(ctx context.Context, before, after string) error {
	return errors.Join(c.people.ChannelChanged(ctx, before), c.planner.ChannelRenamed(ctx, before, after))
}

// kinds of envelopes by their names in Socket Mode.
var kinds = map[string]interact.Kind{
	slack.EnvelopeInteraction: interact.KindInteraction, slack.EnvelopeCommand: interact.KindCommand, slack.EnvelopeEvent: interact.KindEvent,
}

// envelope hands what came over a socket to the desk. What cannot be taken now is not
// acknowledged, and comes again.
func (c *conversation) envelope(ctx context.Context, e slack.Envelope) slack.Ack {
	kind, known := kinds[e.Type]
	if !known {
		return slack.Ack{Done: true}
	}
	ack := c.desk.Handle(ctx, interact.Envelope{Kind: kind, Transport: interact.TransportSocket, Key: e.ID, Body: e.Payload})
	return slack.Ack{Done: ack.Status != http.StatusServiceUnavailable, Payload: ack.Body}
}

// run keeps the facts, sends what is owed, finishes what a process before left undone, and
// listens to the socket, until ctx ends. Only processes that work jobs do the last three.
func (c *conversation) run(ctx context.Context, workers bool) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { c.people.Run(ctx) })
	if c.tokens != nil {
		running.Go(func() { c.tokens.Run(ctx) })
	}
	if !workers {
		return
	}
	running.Go(func() { _ = c.sender.Run(ctx) }) // it logs what goes wrong, and returns nil
	running.Go(func() { c.desk.Work(ctx) })
	if c.socket != nil {
		running.Go(func() { c.listen(ctx) })
	}
}

// listen says aloud when Slack's socket is closed for good: nobody's click arrives any more.
func (c *conversation) listen(ctx context.Context) {
	if err := c.socket.Run(ctx); err != nil {
		c.log.ErrorContext(ctx, "Slack's socket is closed for good: no click arrives any more; put it right and start again", slog.Any("error", err))
		c.sender.Trip("socket mode: " + err.Error())
	}
}

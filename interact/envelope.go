package interact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"

	"countersign/db"
	"countersign/slack"
)

// Kind is what sort of request of Slack's something is.
type Kind string

const (
	// KindInteraction is a click, or a modal that was sent off or closed.
	KindInteraction Kind = "interaction"
	// KindCommand is a slash command.
	KindCommand Kind = "command"
	// KindEvent is an event.
	KindEvent Kind = "event"
)

// Transport is the way a request came.
type Transport string

const (
	// TransportHTTP is a signed request to one of our addresses.
	TransportHTTP Transport = "http"
	// TransportSocket is an envelope of Socket Mode, whose connection is authentic as a whole.
	TransportSocket Transport = "socket"
)

// Envelope is an authentic request of Slack.
type Envelope struct {
	Kind      Kind
	Transport Transport
	// Key is the same in every delivery of the request: [slack.ReplayKey] over HTTP, the
	// envelope's id over a socket. Of an event its own id counts instead.
	Key string
	// Body is the raw body over HTTP, and the payload of the envelope over a socket.
	Body []byte
}

// Ack is what Slack is answered with, within its 3 s.
type Ack struct {
	// Status is that of the HTTP answer: 200, 400 for what cannot be read, 401 for what was
	// taken before, 503 when the person is to press again. Over a socket anything but 503 is
	// acknowledged.
	Status int
	// Body is JSON for Slack, nil for none.
	Body []byte
}

// request is an envelope that was read.
type request struct {
	Envelope
	key         string
	interaction slack.Interaction
	command     slack.Command
	event       slack.Event
}

// read parses an envelope; its errors are [slack.ErrMalformed].
func read(e Envelope) (r request, err error) {
	r = request{Envelope: e, key: e.Key}
	switch {
	case e.Kind == KindInteraction && e.Transport == TransportSocket:
		r.interaction, err = slack.ParseInteractionJSON(e.Body)
	case e.Kind == KindInteraction:
		r.interaction, err = slack.ParseInteraction(e.Body)
	case e.Kind == KindCommand && e.Transport == TransportSocket:
		r.command, err = slack.ParseCommandJSON(e.Body)
	case e.Kind == KindCommand:
		r.command, err = slack.ParseCommand(e.Body)
	case e.Kind == KindEvent:
		r.event, err = slack.ParseEvent(e.Body)
	default:
		err = fmt.Errorf("%w: an unknown kind of envelope", slack.ErrMalformed)
	}
	return r, err
}

// inbound is the request as it is written down. The same event is one request whichever way
// it comes; anything else is only as old as its transport says.
func (r request) inbound() db.Inbound {
	name := string(r.Kind) + "\n" + string(r.Transport) + "\n" + r.Key
	if r.Kind == KindEvent && r.event.ID != "" {
		name = string(r.Kind) + "\n" + r.event.ID
	}
	sum := sha256.Sum256([]byte(name))
	return db.Inbound{Key: hex.EncodeToString(sum[:]), Kind: string(r.Kind), Transport: string(r.Transport), Body: r.Body}
}

// Handle takes an authentic request, once: it is written down, carried out and answered. What
// has arrived counts even if whoever waits for the answer has hung up. What cannot be carried
// out in time is answered all the same, and left to [Desk.Work].
func (d *Desk) Handle(ctx context.Context, e Envelope) Ack {
	r, err := read(e)
	if err != nil {
		d.c.Logger.WarnContext(ctx, "unreadable Slack request", slog.String("kind", string(e.Kind)), slog.Any("error", err))
		return Ack{Status: http.StatusBadRequest}
	}
	if r.event.Kind == slack.EventURLVerification {
		return Ack{Status: http.StatusOK, Body: challenge(r.event.Challenge)}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.c.Budget)
	defer cancel()
	working, stop := context.WithTimeout(ctx, d.c.Budget*3/5)
	defer stop()
	in := r.inbound()
	r.key = in.Key
	fresh, err := d.c.Store.TakeInbound(working, in)
	switch {
	case err != nil:
		d.c.Logger.ErrorContext(ctx, "cannot take a Slack request", slog.String("kind", string(e.Kind)), slog.Any("error", err))
		return Ack{Status: http.StatusServiceUnavailable}
	case !fresh:
		return d.again(ctx, r)
	}
	return d.carryOut(ctx, working, r)
}

// again answers a request that was taken before. Slack repeats events, and envelopes that it
// saw no answer to; a signed request of any other kind it sends once, so that the second is
// somebody else's.
func (d *Desk) again(ctx context.Context, r request) Ack {
	if r.Kind == KindEvent || r.Transport == TransportSocket {
		return Ack{Status: http.StatusOK}
	}
	d.warnOfForgery(ctx, errReplayed)
	return Ack{Status: http.StatusUnauthorized}
}

// carryOut does what a request asks for and says how to answer Slack. working bounds the
// first, ctx both.
func (d *Desk) carryOut(ctx, working context.Context, r request) Ack {
	switch r.Kind {
	case KindCommand:
		message, outcome, err := d.command(working, r.command)
		if err != nil {
			d.unfinished(ctx, r, err)
			return Ack{Status: http.StatusOK, Body: ephemeral(stillChecking)}
		}
		d.finish(ctx, r, outcome)
		return Ack{Status: http.StatusOK, Body: ephemeralMessage(message)}
	case KindEvent:
		outcome, err := d.event(working, r.event)
		if err != nil {
			d.unfinished(ctx, r, err)
			return Ack{Status: http.StatusOK}
		}
		d.finish(ctx, r, outcome)
		return Ack{Status: http.StatusOK}
	case KindInteraction:
	}
	p := &press{Interaction: r.interaction, key: r.key}
	err := d.interact(working, p)
	if p.Type == slack.ViewSubmission {
		return d.answerModal(ctx, r, p, err)
	}
	return d.answerClick(ctx, r, p, err)
}

// finish notes that a request is done, and writes its line in the log. Should the note fail,
// it is carried out once more: then there is nothing left to do, or to be told again.
func (d *Desk) finish(ctx context.Context, r request, outcome string, attrs ...slog.Attr) {
	if err := d.c.Store.FinishInbound(ctx, r.key, outcome); err != nil {
		d.c.Logger.ErrorContext(ctx, "cannot note that a Slack request is done", slog.Any("error", err))
	}
	d.line(ctx, r, outcome, attrs...)
}

// line is the one in the log for a request.
func (d *Desk) line(ctx context.Context, r request, outcome string, attrs ...slog.Attr) {
	d.c.Logger.LogAttrs(ctx, slog.LevelInfo, "slack request", append([]slog.Attr{
		slog.String("kind", string(r.Kind)), slog.String("transport", string(r.Transport)), slog.String("outcome", outcome),
	}, attrs...)...)
}

// unfinished says in the log that a request is left to [Desk.Work].
func (d *Desk) unfinished(ctx context.Context, r request, err error) {
	d.c.Logger.WarnContext(ctx, "a Slack request is not finished yet", slog.String("kind", string(r.Kind)),
		slog.String("transport", string(r.Transport)), slog.Any("error", err))
}

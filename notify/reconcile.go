package notify

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign/db"
	"countersign/slack"
)

const (
	// reasonThere stands with a post that Slack says it has, without saying where.
	reasonThere = "slack has it, and does not say where"
	// firstLook is how long after a post without an answer it is looked for, once; what is not
	// there by then is looked for again when it has had time to settle.
	firstLook = 2 * time.Second
	// clockSkew is how far Slack's clock, which the search goes by, may be behind ours.
	clockSkew = time.Minute
	// maxDoubts bounds how often a post is sent without knowing whether it was there already.
	maxDoubts = 20
)

// doubt sees to a post that may be in Slack. Even one of which Slack says that there were too
// many may be.
func (s *Sender) doubt(ctx context.Context, p db.Post, e *slack.Error, reason string) {
	wait := min(firstLook, s.c.Settle)
	switch {
	case strings.HasPrefix(e.Code, "duplicate_"):
		wait, reason = s.c.Settle, reasonThere
	case e.Class == slack.RateLimited:
		wait = e.RetryAfter
	}
	s.trouble(ctx, "a post cannot be returned", p, s.c.Store.ReturnPost(ctx, p, db.PostUnknown, wait, reason))
}

// settle finds out about a post that may be in Slack: where the app may read messages, by
// looking for it; elsewhere by sending it once more in a way that lets Slack know it again.
func (s *Sender) settle(ctx context.Context, p db.Post) (called bool) {
	ref, err := s.adopted(ctx, p)
	if err == nil && ref.TS == "" {
		ref, called, err = s.find(ctx, p)
	}
	switch {
	case err == nil && ref.TS != "":
		// What it shows is from when it was sent; what it should show, it is given next.
		s.posted(ctx, p, db.Shown{Channel: ref.Channel, TS: ref.TS})
	case errors.Is(err, errBlind):
		s.resend(ctx, p)
	case err != nil:
		s.trouble(ctx, "a post that may be there cannot be looked for", p, err)
		s.trouble(ctx, "a post cannot be returned", p, s.c.Store.ReturnPost(ctx, p, db.PostUnknown, s.lookAgain(p, err), p.Reason))
	default:
		s.absent(ctx, p)
	}
	return called
}

func (s *Sender) lookAgain(p db.Post, err error) time.Duration {
	var e *slack.Error
	if errors.As(err, &e) && e.Class == slack.RateLimited {
		return e.RetryAfter
	}
	return max(firstLook, backoff(p.Attempts))
}

// adopted is where the card of a post has been found meanwhile, because somebody pressed a
// button of it.
func (s *Sender) adopted(ctx context.Context, p db.Post) (slack.Ref, error) {
	card, err := s.cardOf(ctx, p)
	return slack.Ref{Channel: card.PostedTo, TS: card.TS}, err
}

// errBlind means that this app may not look for its messages there.
var errBlind = errors.New("the app may not read messages there")

// find looks for a post by its metadata, among what is no older than its first try.
func (s *Sender) find(ctx context.Context, p db.Post) (ref slack.Ref, called bool, err error) {
	room, thread := "", ""
	if !p.Kind.IsCard() && p.Handle != "" {
		card, err := s.c.Store.CardByHandle(ctx, p.Handle)
		if err != nil {
			return slack.Ref{}, false, err
		}
		room, thread = card.PostedTo, card.TS
	}
	if room == "" {
		if room, err = s.rooms.find(ctx, p.Destination); err != nil {
			return slack.Ref{}, true, s.blinded(ctx, room, err)
		}
	}
	switch can, err := s.rooms.readable(ctx, room); {
	case err != nil:
		s.answered(ctx, err)
		return slack.Ref{}, true, err
	case !can:
		return slack.Ref{}, false, errBlind
	}
	ref, _, err = s.c.Client.FindByMetadata(ctx, room, thread, p.SentFrom.Add(-clockSkew), metadataType, metadataKey, p.ID.String())
	return ref, true, s.blinded(ctx, room, err)
}

// blinded tells what only keeps this app from looking there from what is wrong with Slack.
func (s *Sender) blinded(ctx context.Context, room string, err error) error {
	var e *slack.Error
	if errors.As(err, &e) && (e.Class == slack.Permanent || e.Code == "missing_scope") {
		s.rooms.blind(room)
		return fmt.Errorf("%w: %w", errBlind, err)
	}
	s.answered(ctx, err)
	return err
}

// absent sees to a post that was looked for and is not there: it is sent again once Slack has
// had the time to show it.
func (s *Sender) absent(ctx context.Context, p db.Post) {
	s.trouble(ctx, "a post cannot be returned", p, s.c.Store.AbsentPost(ctx, p, s.c.Settle))
}

// resend sends a post that may be there again, where nothing better can be done. Slack may
// know it again by its client_msg_id and say so. Then there is a message, but not where it
// is: for one that is never changed that is enough. A card whose place is not known could
// never be brought up to date, so it is posted a second time as another message; whoever
// presses a button of the first one makes that known, and it follows.
func (s *Sender) resend(ctx context.Context, p db.Post) {
	switch {
	case p.Reason == reasonThere && !p.Kind.IsCard():
		s.trouble(ctx, "a post cannot be given up", p, s.c.Store.GiveUpPost(ctx, p, db.PostDropped, reasonThere))
		return
	case p.Attempts >= maxDoubts:
		s.dead(ctx, p, p, "it was sent too often without an answer: "+p.Reason)
		return
	}
	if wait := s.limiter.take(s.c.Now(), methodPost, p.Destination); wait > 0 {
		s.trouble(ctx, "a post cannot be returned", p, s.c.Store.ReturnPost(ctx, p, db.PostUnknown, wait, p.Reason))
		return
	}
	if !s.post(ctx, p) {
		s.limiter.giveBack(methodPost, p.Destination)
	}
}

// rooms knows the ids of destinations, and where messages may be read.
type rooms struct {
	client *slack.Client
	now    func() time.Time

	mu     sync.Mutex
	ids    map[string]string
	dark   map[string]bool
	scopes []string
	asked  time.Time
}

func newRooms(c *slack.Client, now func() time.Time) *rooms {
	return &rooms{client: c, now: now, ids: map[string]string{}, dark: map[string]bool{}}
}

// learn notes that a destination is a conversation.
func (r *rooms) learn(destination, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) >= maxRooms {
		clear(r.ids)
	}
	r.ids[destination] = id
}

// blind notes that a conversation cannot be read.
func (r *rooms) blind(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark[id] = true
}

var conversationID = regexp.MustCompile(`^[CDG][A-Z0-9]{2,30}$`)

// find is the conversation of a destination. [errBlind] when there is none.
func (r *rooms) find(ctx context.Context, destination string) (string, error) {
	r.mu.Lock()
	id := r.ids[destination]
	r.mu.Unlock()
	var err error
	switch {
	case id != "":
		return id, nil
	case conversationID.MatchString(destination):
		return destination, nil
	case isPerson(destination):
		id, err = r.client.OpenDirect(ctx, destination)
	default:
		var there bool
		var facts slack.ConversationFacts
		if facts, there, err = r.client.ConversationNamed(ctx, strings.TrimPrefix(destination, "#")); err == nil && !there {
			err = errBlind
		}
		id = facts.ID
	}
	if err == nil {
		r.learn(destination, id)
	}
	return id, err
}

// scopesFor is how long it is believed what the app may do.
const scopesFor = 10 * time.Minute

// readable reports whether the app may read the messages of a conversation.
func (r *rooms) readable(ctx context.Context, id string) (bool, error) {
	r.mu.Lock()
	scopes, asked, dark := r.scopes, r.asked, r.dark[id]
	r.mu.Unlock()
	if r.now().Sub(asked) > scopesFor {
		me, err := r.client.Auth(ctx)
		if err != nil {
			return false, err
		}
		scopes = me.Scopes
		r.mu.Lock()
		r.scopes, r.asked = scopes, r.now()
		clear(r.dark)
		dark = false
		r.mu.Unlock()
	}
	if strings.HasPrefix(id, "D") {
		return !dark && slices.Contains(scopes, "im:history"), nil
	}
	return !dark && (slices.Contains(scopes, "channels:history") || slices.Contains(scopes, "groups:history")), nil
}

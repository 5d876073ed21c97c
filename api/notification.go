package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/db"
)

const (
	// overdueAfter is how long a message may be on its way before that is said.
	overdueAfter = time.Minute
	// fresh is how long after its submit a ticket is not looked after: its messages are
	// being written down.
	fresh = time.Second
)

// How far people are told that a ticket waits for them; the contract says what each means.
const (
	notificationNone    = "none"
	notificationQueued  = "queued"
	notificationSent    = "sent"
	notificationDelayed = "delayed"
	notificationFailed  = "failed"
)

// notification says whether the people of a ticket's current stage are told of it. Nobody
// is, once it waits for nobody.
func (s *Server) notification(ctx context.Context, x *exchange, t approvals.Ticket) (Notification, error) {
	if !t.State.Open() || t.Stage >= len(t.Plan.Stages) || !x.config.Slack.Configured() {
		return Notification{Status: notificationNone}, nil
	}
	if t.Version == 1 && s.now().Sub(t.CreatedAt) < fresh {
		return Notification{Status: notificationQueued}, nil
	}
	n, err := s.store.Notified(ctx, t.ID, t.Stage)
	if err != nil {
		return Notification{}, err
	}
	return notified(n, t.StageSince), nil
}

// notified puts what is known of the messages of a stage in a word and a sentence. One that
// is there counts for all; what is not even written down is owed since the stage began.
func notified(n db.Notified, since time.Time) Notification {
	if !n.OwedSince.IsZero() {
		since = n.OwedSince
	}
	all := n.Sent + n.Owed + n.Dead
	switch {
	case n.Sent == all && all > 0:
		return Notification{Status: notificationSent}
	case n.Sent > 0:
		return Notification{Status: notificationSent, Detail: fmt.Sprintf("%d of %d messages are in Slack", n.Sent, all)}
	case n.Owed == 0 && n.Dead > 0:
		return Notification{Status: notificationFailed, Detail: "Slack does not take the message: " + strings.ReplaceAll(n.Reason, "_", " ")}
	case n.Held:
		return Notification{Status: notificationDelayed, Detail: "Slack takes no messages at present"}
	case n.Now.Sub(since) > overdueAfter && all == 0:
		return Notification{Status: notificationDelayed, Detail: "no message is on its way"}
	case n.Now.Sub(since) > overdueAfter:
		return Notification{Status: notificationDelayed, Detail: "the message has been on its way for " + n.Now.Sub(since).Truncate(time.Second).String()}
	}
	return Notification{Status: notificationQueued}
}

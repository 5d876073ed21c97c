package notify

import (
	"context"
	"fmt"
	"strings"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// endpointPrefix begins the name of a message about a callback endpoint, which belongs to no
// ticket: endpoint/<id>/<failing, disabled or dead_letter>/<since>/<destination>.
const endpointPrefix = "endpoint/"

const (
	endpointDisabled = "disabled"
	endpointFailing  = "failing"
	// endpointGivenUp is of a delivery that is not tried again.
	endpointGivenUp = "dead_letter"
)

// EndpointTrouble writes down that the people of an endpoint's caller are told that it is
// failing, that a delivery to it was given up, or that it was disabled: in the channel that the
// configuration names for that, else each of the caller's owners. It is told once.
func (p *Planner) EndpointTrouble(ctx context.Context, e db.Endpoint) error {
	what, since := endpointFailing, e.FailingSince
	switch {
	case e.Disabled():
		what, since = endpointDisabled, e.DisabledAt
	case !e.DeadLetterAt.IsZero():
		what, since = endpointGivenUp, e.DeadLetterAt
	}
	var posts []db.Post
	for _, to := range p.endpointPeople(e.Caller) {
		posts = append(posts, db.Post{
			Name: fmt.Sprintf("%s%s/%s/%d/%s", endpointPrefix, e.ID, what, since.Unix(), to),
			Kind: db.PostAnnouncement, Destination: to, Priority: priorityProgress,
		})
	}
	if err := p.c.Store.QueuePosts(ctx, posts); err != nil {
		return fmt.Errorf("queue messages about endpoint %s: %w", e.ID, err)
	}
	p.c.Wake()
	return nil
}

// endpointPeople is where a caller's people are told about its endpoints.
func (p *Planner) endpointPeople(caller string) []string {
	config := p.c.Policy()
	c, ok := config.Caller(caller)
	if !ok {
		return nil
	}
	if c.AlertChannel != "" {
		return []string{c.AlertChannel}
	}
	dir := config.Directory().At(p.c.Now())
	return situation{dir: dir}.addresses(dir.Owners[caller])
}

// endpointPost renders a message about an endpoint as it is now. One that is well again, or
// enabled, is not spoken of any more, nor are deliveries that have been sent since.
func (p *Planner) endpointPost(ctx context.Context, post db.Post) (Outgoing, error) {
	parts := strings.SplitN(strings.TrimPrefix(post.Name, endpointPrefix), "/", 3)
	e, err := p.c.Store.EndpointByID(ctx, parts[0])
	if approvals.ErrorCode(err) == approvals.CodeNotFound {
		return Outgoing{}, ErrOver
	}
	if err != nil {
		return Outgoing{}, err
	}
	givenUp, err := p.givenUp(ctx, e)
	if err != nil {
		return Outgoing{}, err
	}
	if stale := map[string]bool{
		endpointDisabled: !e.Disabled(), endpointGivenUp: e.Disabled() || givenUp == "", endpointFailing: e.Disabled() || e.Failures == 0,
	}; stale[parts[1]] {
		return Outgoing{}, ErrOver
	}
	m := slack.EndpointTrouble{
		ID: e.ID, Caller: e.Caller, Origin: e.Origin, Disabled: e.Disabled(), Why: e.DisabledWhy, Failures: e.Failures, Since: e.FailingSince,
		GivenUp: givenUp, DeadLetter: parts[1] == endpointGivenUp,
	}
	if !strings.HasPrefix(e.DisabledBy, "worker_") {
		m.By = e.DisabledBy
	}
	return Outgoing{Message: m.Message(), Priority: post.Priority}, nil
}

// givenUp is what the latest delivery to an endpoint that was given up is about; empty: there
// is none.
func (p *Planner) givenUp(ctx context.Context, e db.Endpoint) (string, error) {
	found, err := p.c.Store.Deliveries(ctx, db.DeliveryFilter{EndpointID: e.ID, State: approvals.CallbackExhausted, Limit: 1})
	if err != nil || len(found) == 0 {
		return "", err
	}
	return fmt.Sprintf("%s of %s", found[0].EventType, found[0].TicketID), nil
}

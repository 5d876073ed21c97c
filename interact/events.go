package interact

import (
	"context"
	"log/slog"

	"countersign/slack"
)

// outcomeIgnored is for events that are of no consequence.
const outcomeIgnored = "ignored"

// event does what an event asks for, which can be done twice without harm. An error means
// that it could not be done yet.
func (d *Desk) event(ctx context.Context, e slack.Event) (outcome string, err error) {
	if !d.ours(e.AppID, e.TeamID, e.EnterpriseID) {
		d.c.Logger.WarnContext(ctx, "an event from another workspace or app", slog.String("team", e.TeamID),
			slog.String("app", e.AppID), slog.String("event", string(e.Kind)))
		return outcomeRefused, nil
	}
	switch e.Kind {
	case slack.EventHomeOpened:
		return d.homeOpened(ctx, e)
	case slack.EventUserChange, slack.EventTeamJoin:
		if d.c.Facts != nil {
			d.c.Facts.UserChanged(ctx, e.User)
		}
		return outcomeTold, nil
	case slack.EventGroupMembers, slack.EventGroupUpdated:
		if d.c.Facts != nil {
			d.c.Facts.GroupChanged(ctx, e.Group)
		}
		return outcomeTold, nil
	case slack.EventChannelArchive, slack.EventChannelIDChanged, slack.EventChannelShared:
		return d.channelChanged(ctx, e)
	case slack.EventAppUninstalled, slack.EventTokensRevoked:
		d.c.Logger.ErrorContext(ctx, "slack takes nothing from us any more", slog.String("event", string(e.Kind)))
		if d.c.Alarm != nil {
			d.c.Alarm(ctx, string(e.Kind))
		}
		return outcomeTold, nil
	case slack.EventRateLimited:
		d.c.Logger.WarnContext(ctx, "slack has left out events: facts may be older than they seem until they are read again")
		return outcomeTold, nil
	case slack.EventURLVerification:
	}
	return outcomeIgnored, nil
}

// homeOpened notes that somebody looks at their home tab; the sender publishes it. Who they
// are is noted as it is known now, for them to be found when a ticket of theirs changes.
func (d *Desk) homeOpened(ctx context.Context, e slack.Event) (string, error) {
	if e.Tab != "" && e.Tab != "home" {
		return outcomeIgnored, nil
	}
	person, _ := d.c.Policy().Directory().BySlack(e.User)
	if err := d.c.Store.OpenedHome(ctx, e.TeamID, e.User, person.Name); err != nil {
		return "", err
	}
	return "opened", nil
}

func (d *Desk) channelChanged(ctx context.Context, e slack.Event) (string, error) {
	if d.c.Channels == nil {
		return outcomeIgnored, nil
	}
	var err error
	switch e.Kind { //nolint:exhaustive // the three that it is called for
	case slack.EventChannelArchive:
		err = d.c.Channels.ChannelGone(ctx, e.Channel, "is_archived")
	case slack.EventChannelIDChanged:
		err = d.c.Channels.ChannelRenamed(ctx, e.Channel, e.NewChannel)
	case slack.EventChannelShared:
		if d.c.Policy().Slack.AllowExternal {
			return outcomeIgnored, nil
		}
		err = d.c.Channels.ChannelGone(ctx, e.Channel, "externally_shared")
	}
	if err != nil {
		return "", err
	}
	return outcomeTold, nil
}

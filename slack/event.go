package slack

import (
	"encoding/json"
	"time"
)

// EventKind says what an event of Slack is.
type EventKind string

// The kinds of events that are read. Any other is parsed as far as its id and is of no
// consequence.
const (
	// EventURLVerification is Slack trying out an address: answer with Challenge.
	EventURLVerification EventKind = "url_verification"
	// EventRateLimited says that Slack has left out events.
	EventRateLimited EventKind = "app_rate_limited"

	EventHomeOpened       EventKind = "app_home_opened"
	EventGroupMembers     EventKind = "subteam_members_changed"
	EventGroupUpdated     EventKind = "subteam_updated"
	EventUserChange       EventKind = "user_change"
	EventTeamJoin         EventKind = "team_join"
	EventChannelArchive   EventKind = "channel_archive"
	EventChannelIDChanged EventKind = "channel_id_changed"
	EventChannelShared    EventKind = "channel_shared"
	EventAppUninstalled   EventKind = "app_uninstalled"
	EventTokensRevoked    EventKind = "tokens_revoked"
)

// Event is what Countersign believes of an authentic event. Fields that do not apply are
// empty.
type Event struct {
	Kind EventKind
	// ID is the same in every delivery of the event. Empty only for url_verification and
	// app_rate_limited.
	ID string
	// Challenge is what a url_verification is answered with.
	Challenge string
	// TeamID and EnterpriseID are as in [Interaction]; at least one is set but for a
	// url_verification.
	TeamID, EnterpriseID string
	AppID                string
	// At is when it happened, to the second; zero when Slack does not say.
	At time.Time
	// User is whom it is about: who opened their Home tab, changed or joined.
	User string
	// Tab is which tab was opened: "home" or "messages".
	Tab string
	// Group is the user group that changed.
	Group string
	// Channel is the one that was archived or shared, or whose id changed, in which case it
	// is the old id and NewChannel the new one.
	Channel, NewChannel string
}

// notice is the little that is read of an event.
type notice struct {
	Type         string `json:"type"`
	Challenge    string `json:"challenge"`
	TeamID       string `json:"team_id"`
	EnterpriseID string `json:"enterprise_id"`
	AppID        string `json:"api_app_id"`
	EventID      string `json:"event_id"`
	EventTime    int64  `json:"event_time"`
	Event        struct {
		Type       EventKind       `json:"type"`
		User       json.RawMessage `json:"user"`
		Tab        string          `json:"tab"`
		SubteamID  string          `json:"subteam_id"`
		Subteam    *identified     `json:"subteam"`
		Channel    json.RawMessage `json:"channel"`
		OldChannel string          `json:"old_channel_id"`
		NewChannel string          `json:"new_channel_id"`
	} `json:"event"`
}

// ParseEvent reads the body of an event whose signature [Verifier.Verify] has accepted, or
// the payload of an envelope of Socket Mode: JSON of at most [MaxInteraction] bytes. Every
// error is [ErrMalformed].
func ParseEvent(raw []byte) (Event, error) {
	if err := bounded(raw); err != nil {
		return Event{}, err
	}
	var n notice
	if err := json.Unmarshal(raw, &n); err != nil {
		return Event{}, malformed("not the JSON of an event")
	}
	e := Event{Kind: EventKind(n.Type), TeamID: n.TeamID, EnterpriseID: n.EnterpriseID, AppID: n.AppID}
	switch n.Type {
	case string(EventURLVerification):
		if n.Challenge == "" || len(n.Challenge) > 1000 {
			return Event{}, malformed("no challenge")
		}
		return Event{Kind: e.Kind, Challenge: n.Challenge}, nil
	case string(EventRateLimited):
	case "event_callback":
		e.Kind, e.ID = n.Event.Type, n.EventID
		if !idPattern.MatchString(e.ID) || e.Kind == "" || len(e.Kind) > 100 {
			return Event{}, malformed("an event without an id or a type")
		}
		if n.EventTime > 0 {
			e.At = time.Unix(n.EventTime, 0).UTC()
		}
	default:
		return Event{}, malformed("an unknown type")
	}
	if err := e.fill(n); err != nil {
		return Event{}, err
	}
	return e, nil
}

// fill reads what the kinds of events are about, and refuses those that do not say it.
func (e *Event) fill(n notice) error {
	if !idPattern.MatchString(e.AppID) || (e.TeamID == "" && e.EnterpriseID == "") {
		return malformed("no app, or no workspace and no organisation")
	}
	var ok, about bool
	switch about = true; e.Kind { //nolint:exhaustive // the others are about nothing but the app
	case EventHomeOpened:
		e.User, ok = idOf(n.Event.User)
		e.Tab = n.Event.Tab
	case EventUserChange, EventTeamJoin:
		e.User, ok = idOf(n.Event.User)
	case EventGroupMembers:
		e.Group, ok = n.Event.SubteamID, true
	case EventGroupUpdated:
		e.Group, ok = n.Event.Subteam.id(), true
	case EventChannelArchive, EventChannelShared:
		e.Channel, ok = idOf(n.Event.Channel)
	case EventChannelIDChanged:
		e.Channel, e.NewChannel, ok = n.Event.OldChannel, n.Event.NewChannel, n.Event.NewChannel != ""
	default:
		about = false
	}
	if about && (!ok || e.User+e.Group+e.Channel == "") {
		return malformed("an event that does not say what it is about")
	}
	return possible(e.TeamID, e.EnterpriseID, e.User, e.Group, e.Channel, e.NewChannel)
}

// idOf reads what Slack writes as an id in some events and as an object with an id in others.
func idOf(raw json.RawMessage) (string, bool) {
	var id string
	if json.Unmarshal(raw, &id) == nil {
		return id, true
	}
	var object identified
	if json.Unmarshal(raw, &object) != nil {
		return "", false
	}
	return object.ID, true
}

package slack

import (
	"context"
	"net/url"
)

// ConversationFacts is what Slack says of a channel or a direct message.
type ConversationFacts struct {
	ID string `json:"id"`
	// Name is without the #; "" for a direct message.
	Name string `json:"name,omitempty"`
	// Archived channels take no messages, nor do those that the bot is no Member of.
	Archived bool `json:"archived,omitempty"`
	Member   bool `json:"member,omitempty"`
	// ExternallyShared channels have members of other organisations, or are about to;
	// OrgShared ones of other workspaces of the same organisation.
	ExternallyShared bool `json:"externally_shared,omitempty"`
	OrgShared        bool `json:"org_shared,omitempty"`
	Private          bool `json:"private,omitempty"`
	Direct           bool `json:"direct,omitempty"`
}

type wireConversation struct {
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	Archived        bool     `json:"is_archived"`
	Member          bool     `json:"is_member"`
	ExtShared       bool     `json:"is_ext_shared"`
	PendingExt      bool     `json:"is_pending_ext_shared"`
	OrgShared       bool     `json:"is_org_shared"`
	Private         bool     `json:"is_private"`
	IM              bool     `json:"is_im"`
	PendingInvitees []string `json:"pending_connected_team_ids"`
}

func (w wireConversation) facts() ConversationFacts {
	return ConversationFacts{
		ID: w.ID, Name: w.Name, Archived: w.Archived, Member: w.Member || w.IM, OrgShared: w.OrgShared,
		ExternallyShared: w.ExtShared || w.PendingExt || len(w.PendingInvitees) > 0, Private: w.Private, Direct: w.IM,
	}
}

// Conversation asks about a channel by its id (conversations.info; scopes channels:read and
// groups:read). A private channel that the bot is not in is a [Permanent] error with the
// code channel_not_found.
func (c *Client) Conversation(ctx context.Context, id string) (ConversationFacts, error) {
	const method = "conversations.info"
	if err := c.checkID(ctx, method, id); err != nil {
		return ConversationFacts{}, err
	}
	var got struct {
		envelope
		Channel wireConversation `json:"channel"`
	}
	if _, err := c.ask(ctx, method, url.Values{"channel": {id}}, &got); err != nil {
		return ConversationFacts{}, err
	}
	if got.Channel.ID == "" {
		return ConversationFacts{}, c.notAnswered(ctx, method)
	}
	return got.Channel.facts(), nil
}

// maxChannelPages bounds a list of channels: 50,000 of them.
const maxChannelPages = 50

// Conversations lists the public channels of the workspace and the private ones that the
// bot is in, archived ones too (conversations.list; scopes channels:read and groups:read).
// More than 50,000 are an error with the code too_many_pages.
func (c *Client) Conversations(ctx context.Context) ([]ConversationFacts, error) {
	var out []ConversationFacts
	err := c.conversations(ctx, func(f ConversationFacts) bool {
		out = append(out, f)
		return false
	})
	return out, err
}

// ConversationNamed finds a channel by its name, without the #, among those that
// [Client.Conversations] lists. Of several the one that is not archived is meant. False:
// there is none.
func (c *Client) ConversationNamed(ctx context.Context, name string) (ConversationFacts, bool, error) {
	var found ConversationFacts
	err := c.conversations(ctx, func(f ConversationFacts) bool {
		if f.Name == name && (found.ID == "" || !f.Archived) {
			found = f
		}
		return found.ID != "" && !found.Archived
	})
	return found, err == nil && found.ID != "", err
}

func (c *Client) conversations(ctx context.Context, each func(ConversationFacts) (enough bool)) error {
	args := url.Values{"types": {"public_channel,private_channel"}, "exclude_archived": {"false"}, "limit": {"1000"}}
	return c.pages(ctx, "conversations.list", args, maxChannelPages, func() (answer, func() bool) {
		var got struct {
			envelope
			Channels []wireConversation `json:"channels"`
		}
		return &got, func() bool {
			for _, w := range got.Channels {
				if each(w.facts()) {
					return true
				}
			}
			return false
		}
	})
}

// OpenDirect opens the direct messages with a member and returns their id, which is where
// messages can be updated (conversations.open; scope im:write).
func (c *Client) OpenDirect(ctx context.Context, user string) (channel string, err error) {
	const method = "conversations.open"
	if err := c.checkID(ctx, method, user); err != nil {
		return "", err
	}
	var got struct {
		envelope
		Channel identified `json:"channel"`
	}
	if _, err := c.ask(ctx, method, url.Values{"users": {user}}, &got); err != nil {
		return "", err
	}
	if got.Channel.ID == "" {
		return "", c.notAnswered(ctx, method)
	}
	return got.Channel.ID, nil
}

// Permalink returns the address of a message for people who may see it
// (chat.getPermalink; no scope).
func (c *Client) Permalink(ctx context.Context, ref Ref) (string, error) {
	const method = "chat.getPermalink"
	if err := c.checkID(ctx, method, ref.Channel); err != nil {
		return "", err
	}
	var got struct {
		envelope
		Permalink string `json:"permalink"`
	}
	if _, err := c.ask(ctx, method, url.Values{"channel": {ref.Channel}, "message_ts": {ref.TS}}, &got); err != nil {
		return "", err
	}
	if u, err := url.Parse(got.Permalink); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != c.base.Scheme) {
		return "", c.notAnswered(ctx, method)
	}
	return got.Permalink, nil
}

package slack

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

const (
	// maxHistoryPages and historyPage bound a search among messages: 2,000 of them.
	maxHistoryPages = 10
	historyPage     = 200
)

// HistoryScopes are what a search by [Client.FindByMetadata] may need, by the kind of the
// conversation: public channels, private ones, direct messages.
func HistoryScopes() []string { return []string{"channels:history", "groups:history", "im:history"} }

type wireMessage struct {
	TS       string `json:"ts"`
	User     string `json:"user"`
	BotID    string `json:"bot_id"`
	Metadata struct {
		EventType string         `json:"event_type"`
		Payload   map[string]any `json:"event_payload"`
	} `json:"metadata"`
}

// by reports whether it is a message of the bot itself. Metadata is readable, so anybody
// could post some that we have written before.
func (m wireMessage) by(bot Identity) bool {
	return (m.BotID != "" && m.BotID == bot.BotID) || (m.User != "" && m.User == bot.UserID)
}

// FindByMetadata looks for a message of ours that carries key = value in metadata of that
// type: in a conversation, by its id, from oldest on, or with threadTS among the replies to
// a message (conversations.history, conversations.replies; see [HistoryScopes]). It answers
// "no" only when it has seen all of them: where there are more than 2,000, the error has the
// code too_many_pages.
func (c *Client) FindByMetadata(ctx context.Context, channel, threadTS string, oldest time.Time, eventType, key, value string) (Ref, bool, error) {
	method := "conversations.history"
	args := url.Values{
		"channel": {channel}, "include_all_metadata": {"true"}, "inclusive": {"true"}, "limit": {strconv.Itoa(historyPage)},
		"oldest": {fmt.Sprintf("%d.%06d", oldest.Unix(), oldest.Nanosecond()/1000)},
	}
	if threadTS != "" {
		method = "conversations.replies"
		args.Set("ts", threadTS)
	}
	if err := c.checkID(ctx, method, channel); err != nil {
		return Ref{}, false, err
	}
	bot, err := c.Self(ctx)
	if err != nil {
		return Ref{}, false, err
	}
	found := Ref{Channel: channel}
	err = c.pages(ctx, method, args, maxHistoryPages, func() (answer, func() bool) {
		var got struct {
			envelope
			Messages []wireMessage `json:"messages"`
		}
		return &got, func() bool {
			for _, m := range got.Messages {
				if said, _ := m.Metadata.Payload[key].(string); said == value && m.Metadata.EventType == eventType && m.by(bot) {
					found.TS = m.TS
				}
			}
			return found.TS != ""
		}
	})
	if err != nil || found.TS == "" {
		return Ref{}, false, err
	}
	return found, true, nil
}

// Self is [Client.Auth], asked for once: a token of another bot would be that of another
// installation, which means a restart.
func (c *Client) Self(ctx context.Context) (Identity, error) {
	if known := c.identity.Load(); known != nil {
		return *known, nil
	}
	return c.Auth(ctx)
}

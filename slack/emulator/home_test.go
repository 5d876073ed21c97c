package emulator_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

const homeView = `{"type":"home","callback_id":"cs.home","blocks":[
	{"type":"header","text":{"type":"plain_text","text":"Waiting for you (1)"}},
	{"type":"section","block_id":"i:1","text":{"type":"mrkdwn","text":"*billing*"},
		"accessory":{"type":"button","action_id":"cs.view","value":"h_1","text":{"type":"plain_text","text":"Review"}}}]}`

func TestRule5HomeIsPublishedPerPersonAndGuardedByItsHash(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, ok := b.slack.PublishedHome(bo)
	require.False(t, ok)
	out := b.ok("views.publish", "user_id", bo, "view", homeView)
	require.Equal(t, "home", at(out, "view", "type"))
	home, ok := b.slack.PublishedHome(bo)
	require.True(t, ok)
	require.Equal(t, "Waiting for you (1)\nbilling\n[Review]", home.Text)
	require.Equal(t, at(out, "view", "hash"), home.Hash)
	_, ok = b.slack.PublishedHome(ana)
	require.False(t, ok, "everybody has their own")

	newer := strings.Replace(homeView, "(1)", "(2)", 1)
	b.refused("hash_conflict", "views.publish", "user_id", bo, "view", newer, "hash", "1.x")
	b.ok("views.publish", "user_id", bo, "view", newer, "hash", home.Hash)
	b.refused("hash_conflict", "views.publish", "user_id", bo, "view", homeView, "hash", home.Hash)
	again, _ := b.slack.PublishedHome(bo)
	require.Equal(t, home.ID, again.ID, "the tab stays the same view")
	require.Contains(t, again.Text, "(2)")
	require.Len(t, b.slack.Snapshot().Homes, 1)
	b.ok("views.update", "view_id", home.ID, "view", homeView, "hash", again.Hash)
}

func TestRule3HomeHasItsOwnSurfaceRules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	divider := func(n int) string {
		return `{"type":"home","blocks":[` + strings.TrimSuffix(strings.Repeat(`{"type":"divider"},`, n), ",") + `]}`
	}
	b.ok("views.publish", "user_id", bo, "view", divider(100))
	for name, view := range map[string]string{
		"101 blocks": divider(101),
		"a title":    `{"type":"home","title":{"type":"plain_text","text":"x"},"blocks":[]}`,
		"a modal":    `{"type":"modal","title":{"type":"plain_text","text":"x"},"blocks":[]}`,
		"markdown":   `{"type":"home","blocks":[{"type":"markdown","text":"x"}]}`,
	} {
		out := b.refused("invalid_arguments", "views.publish", "user_id", bo, "view", view)
		require.Contains(t, fmt.Sprint(at(out, "response_metadata", "messages")), "json-pointer:/view", name)
	}
	b.ok("views.publish", "user_id", bo, "view", `{"type":"home","blocks":[{"type":"input","label":{"type":"plain_text","text":"x"},"element":{"type":"plain_text_input"}}]}`)
	b.refused("view_too_large", "views.publish", "user_id", bo, "view", `{"type":"home","blocks":[],"private_metadata":"`+strings.Repeat("x", 250_000)+`"}`)
	for _, nobody := range []string{"U404", "U0BOT"} {
		out := b.refused("invalid_arguments", "views.publish", "user_id", nobody, "view", homeView)
		require.Contains(t, fmt.Sprint(at(out, "response_metadata", "messages")), "user_id")
	}
	off := setup(t, func(c *emulator.Config) { c.NoHome = true })
	off.refused("not_enabled", "views.publish", "user_id", bo, "view", homeView)
}

func TestRule5AButtonOnHomeOpensAModal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ok("views.publish", "user_id", bo, "view", homeView)
	home, _ := b.slack.PublishedHome(bo)
	button, ok := home.Button("cs.view")
	require.True(t, ok)
	require.Equal(t, "h_1", button.Value)
	b.app.answers(func(_ http.ResponseWriter, p object) {
		b.call("views.open", "trigger_id", p["trigger_id"].(string), "view", fixture(t, "deny_modal"))
	})
	seen, err := b.slack.Do(t.Context(), emulator.Action{User: bo, ViewID: home.ID, ActionID: "cs.view"})
	require.NoError(t, err)
	require.NotNil(t, seen.OpenedView)
	p := b.app.last(t).payload
	require.Equal(t, object{"type": "view", "view_id": home.ID}, p["container"])
	require.Equal(t, "home", at(p, "view", "type"))
	require.Equal(t, "h_1", at(p, "actions", 0, "value"))
	require.NotContains(t, p, "response_url")
	require.NotContains(t, p, "channel")
	_, err = b.slack.Do(t.Context(), emulator.Action{User: bo, ViewID: home.ID, ActionID: "cs.view"})
	require.Error(t, err, "the modal is in front of the tab")
	_, err = b.slack.Do(t.Context(), emulator.Action{User: ana, ViewID: home.ID, ActionID: "cs.view"})
	require.ErrorIs(t, err, emulator.ErrNotFound, "it is not on anybody else's screen")
}

func TestRule7OpeningHomeTellsTheApp(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.EventsURL = c.InteractionsURL })
	b.app.answers(func(_ http.ResponseWriter, p object) {
		b.call("views.publish", "user_id", at(p, "event", "user").(string), "view", homeView)
	})
	seen, err := b.slack.OpenHome(soon(t), bo)
	require.NoError(t, err)
	require.True(t, seen.Sent)
	require.NotNil(t, seen.OpenedView)
	require.Contains(t, seen.OpenedView.Text, "Waiting for you")
	p := b.app.last(t).payload
	require.Equal(t, "app_home_opened", at(p, "event", "type"))
	require.Equal(t, "home", at(p, "event", "tab"))
	require.Equal(t, b.slack.DM(bo), at(p, "event", "channel"))
	require.Nil(t, at(p, "event", "view"), "there was none yet")
	_, err = b.slack.OpenHome(soon(t), bo)
	require.NoError(t, err)
	require.Equal(t, seen.OpenedView.ID, at(b.app.last(t).payload, "event", "view", "id"))
	_, err = b.slack.OpenHome(soon(t), "U02EXT")
	require.ErrorIs(t, err, emulator.ErrNotAllowed, "people of other workspaces do not have the app")
}

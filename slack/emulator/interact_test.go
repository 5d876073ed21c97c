package emulator_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// hang makes an app that answers only when the caller has gone.
func (a *app) hang(t *testing.T) {
	t.Helper()
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	a.answers(func(http.ResponseWriter, object) { <-stop })
}

func impatient(c *emulator.Config) { c.AckTimeout = 400 * time.Millisecond }

func TestClickSendsBlockActionsAsSlackDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "Approval needed", "blocks", fixture(t, "pending"))
	seen := b.click(ts, "cs.approve")
	require.True(t, seen.Sent)
	require.Empty(t, seen.Warning)

	p := b.app.last(t).payload
	message, trigger, responseURL := p["message"].(object), p["trigger_id"].(string), p["response_url"].(string)
	require.Equal(t, "Approval needed", message["text"])
	require.Equal(t, "B0EMULATOR", message["bot_id"])
	require.Len(t, message["blocks"], 6)
	require.Regexp(t, `^\d+\.\d+\.[0-9a-f]{32}$`, trigger)
	require.True(t, strings.HasPrefix(responseURL, b.base+"/actions/T0EMULATOR/"), responseURL)
	delete(p, "message")
	delete(p, "trigger_id")
	delete(p, "response_url")
	require.Empty(t, cmp.Diff(object{
		"type": "block_actions", "api_app_id": "A0EMULATOR", "token": "deprecated",
		"user":       object{"id": bo, "username": "bo", "name": "bo", "team_id": "T0EMULATOR"},
		"team":       object{"id": "T0EMULATOR", "domain": "acme"},
		"enterprise": nil, "is_enterprise_install": false,
		"container": object{"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": false},
		"channel":   object{"id": channel, "name": "billing-approvals"},
		"state":     object{"values": object{}},
		"actions": []any{object{
			"type": "button", "action_id": "cs.approve", "block_id": "act", "value": "h_5f0c9c3e7f6e4b8aa1d2c07b94e61f38",
			"style": "primary", "text": object{"type": "plain_text", "text": "Approve", "emoji": false}, "action_ts": "1795447000.000000",
		}},
	}, p))
}

func TestInteractionsAreSignedOverTheRawBodyWithRealTime(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.SigningSecret = "s3cret" })
	b.click(b.post("text", "t", "blocks", fixture(t, "pending")), "cs.ask")
	got := b.app.last(t)
	stamp := got.header.Get("X-Slack-Request-Timestamp")
	mac := hmac.New(sha256.New, []byte("s3cret"))
	_, _ = mac.Write([]byte("v0:" + stamp + ":" + got.body))
	require.Equal(t, "v0="+hex.EncodeToString(mac.Sum(nil)), got.header.Get("X-Slack-Signature"))
	unix, err := strconv.ParseInt(stamp, 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, wallClock(), time.Unix(unix, 0), time.Minute, "though the workspace's clock says 2026")
	require.Equal(t, "application/x-www-form-urlencoded", got.header.Get("Content-Type"))
	form, err := url.ParseQuery(got.body)
	require.NoError(t, err)
	require.Len(t, form, 1)
}

func TestPayloadNamesPrivatePlacesAsSlackDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.ok("chat.postMessage", "channel", bo, "text", "t", "blocks", fixture(t, "pending"))["ts"].(string)
	_, err := b.slack.Click(t.Context(), bo, b.slack.DM(bo), ts, "cs.approve", true)
	require.NoError(t, err)
	require.Equal(t, "directmessage", at(b.app.last(t).payload, "channel", "name"))
	ts = b.ok("chat.postMessage", "channel", "C03SECURITY", "text", "t", "blocks", fixture(t, "pending"))["ts"].(string)
	_, err = b.slack.Click(t.Context(), bo, "C03SECURITY", ts, "cs.approve", true)
	require.NoError(t, err)
	require.Equal(t, "privategroup", at(b.app.last(t).payload, "channel", "name"))
}

func TestExternalPersonClicksWithTheirOwnTeam(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.ok("chat.postMessage", "channel", "C04PARTNER", "text", "t", "blocks", fixture(t, "pending"))["ts"].(string)
	_, err := b.slack.Click(t.Context(), "U02EXT", "C04PARTNER", ts, "cs.approve", true)
	require.NoError(t, err)
	p := b.app.last(t).payload
	require.Equal(t, "T0PARTNER", at(p, "user", "team_id"))
	require.Equal(t, "T0EMULATOR", at(p, "team", "id"))
}

func TestGoingBackInTheConfirmDialogSendsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	seen, err := b.slack.Click(t.Context(), bo, channel, ts, "cs.approve", false)
	require.NoError(t, err)
	require.Equal(t, emulator.Seen{}, seen)
	require.Zero(t, b.app.count())
	seen, err = b.slack.Click(t.Context(), bo, channel, ts, "cs.deny", false)
	require.NoError(t, err)
	require.True(t, seen.Sent, "a button without a dialog asks nobody")
}

func TestPeopleCanOnlyPressWhatIsOnTheirScreen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	for name, tc := range map[string]struct {
		user, channel, ts, action string
		want                      error
	}{
		"guest outside":  {"U02GUEST", channel, ts, "cs.approve", emulator.ErrNotAllowed},
		"deactivated":    {"U02LEFT", channel, ts, "cs.approve", emulator.ErrNotAllowed},
		"nobody":         {"U404", channel, ts, "cs.approve", emulator.ErrNotFound},
		"no channel":     {bo, "C404", ts, "cs.approve", emulator.ErrNotFound},
		"no message":     {bo, channel, "1.000001", "cs.approve", emulator.ErrNotFound},
		"no such button": {bo, channel, ts, "cs.bypass", emulator.ErrNotFound},
	} {
		_, err := b.slack.Click(t.Context(), tc.user, tc.channel, tc.ts, tc.action, true)
		require.ErrorIs(t, err, tc.want, name)
	}
	b.ok("chat.update", "channel", channel, "ts", ts, "text", "t", "blocks", fixture(t, "final"))
	_, err := b.slack.Click(t.Context(), bo, channel, ts, "cs.approve", true)
	require.ErrorIs(t, err, emulator.ErrNotFound, "the button is gone")
	require.Zero(t, b.app.count())
}

func TestAnAppThatDoesNotAckMakesAWarning(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		arrange func(t *testing.T, b *bundle)
		detail  string
	}{
		"late": {func(t *testing.T, b *bundle) { t.Helper(); b.app.hang(t) }, "did not answer within 400ms"},
		"500": {func(_ *testing.T, b *bundle) {
			b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(500) })
		}, "HTTP 500"},
		"202": {func(_ *testing.T, b *bundle) {
			b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(202) })
		}, "HTTP 202"},
		"redirect": {func(_ *testing.T, b *bundle) {
			b.app.answers(func(w http.ResponseWriter, _ object) { w.Header().Set("Location", "/x"); w.WriteHeader(307) })
		}, "HTTP 307"},
		"gone":      {func(_ *testing.T, b *bundle) { b.app.Close() }, "reach the app"},
		"listening": {func(_ *testing.T, b *bundle) { b.slack.SetInteractionsURL("") }, "no interactions URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var edits []func(*emulator.Config)
			if name == "late" {
				edits = append(edits, impatient)
			}
			b := setup(t, edits...)
			ts := b.post("text", "t", "blocks", fixture(t, "pending"))
			tc.arrange(t, b)
			seen := b.click(ts, "cs.deny")
			require.Equal(t, "countersign is not responding. Please try again.", seen.Warning)
			ws := b.slack.Warnings(bo)
			require.Len(t, ws, 1)
			require.Contains(t, ws[0].Detail, tc.detail)
			require.True(t, ws[0].Current)
			require.LessOrEqual(t, b.app.count(), 1, "interactions are never retried")
		})
	}
}

func TestWarningGoesAwayOnceTheAppAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(500) })
	b.click(ts, "cs.deny")
	b.app.answers(nil)
	require.Empty(t, b.click(ts, "cs.deny").Warning)
	require.Len(t, b.slack.Warnings(bo), 1)
	require.False(t, b.slack.Warnings(bo)[0].Current)
}

func TestMenusInMessagesKeepTheirStatePerPerson(t *testing.T) {
	t.Parallel()
	b := setup(t)
	option := func(v string) string { return `{"text":{"type":"plain_text","text":"` + v + `"},"value":"` + v + `"}` }
	ts := b.post("text", "t", "blocks", `[{"type":"actions","block_id":"m","elements":[
		{"type":"static_select","action_id":"one","options":[`+option("a")+`,`+option("b")+`]},
		{"type":"checkboxes","action_id":"many","options":[`+option("x")+`,`+option("y")+`]},
		{"type":"users_select","action_id":"who"},{"type":"button","action_id":"go","text":{"type":"plain_text","text":"Go"}}]}]`)
	use := func(user, action, value string) object {
		_, err := b.slack.Do(t.Context(), emulator.Action{User: user, Channel: channel, TS: ts, ActionID: action, Value: value})
		require.NoError(t, err)
		return b.app.last(t).payload
	}
	require.Equal(t, "b", at(use(bo, "one", "b"), "actions", 0, "selected_option", "value"))
	require.Len(t, at(use(bo, "many", "x,y"), "actions", 0, "selected_options"), 2)
	require.Equal(t, ana, at(use(bo, "who", ana), "actions", 0, "selected_user"))
	p := use(bo, "go", "")
	require.Equal(t, "b", at(p, "state", "values", "m", "one", "selected_option", "value"))
	require.Equal(t, ana, at(p, "state", "values", "m", "who", "selected_user"))
	require.Equal(t, object{}, at(use(ana, "go", ""), "state", "values"), "somebody else chose nothing")
	_, err := b.slack.Do(t.Context(), emulator.Action{User: bo, Channel: channel, TS: ts, ActionID: "one", Value: "z"})
	require.ErrorIs(t, err, emulator.ErrNotFound)
}

func TestButtonInAnEphemeralCarriesNoMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.ok("chat.postEphemeral", "channel", channel, "user", bo, "text", "t", "blocks", fixture(t, "pending"))["message_ts"].(string)
	b.click(ts, "cs.deny")
	p := b.app.last(t).payload
	require.Equal(t, true, at(p, "container", "is_ephemeral"))
	require.NotContains(t, p, "message")
	_, err := b.slack.Click(t.Context(), ana, channel, ts, "cs.deny", true)
	require.ErrorIs(t, err, emulator.ErrNotFound, "nobody else has it on their screen")
}

func TestRawRequestsCanForgeReplayAndTamper(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	b.click(ts, "cs.approve")
	sent := b.slack.Deliveries()
	require.Len(t, sent, 1)

	replay := emulator.Raw{Body: sent[0].Body, Header: map[string]string{}}
	for k := range sent[0].Header {
		replay.Header[k] = sent[0].Header.Get(k)
	}
	b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(401); _, _ = io.WriteString(w, "no") })
	reply, err := b.slack.SendRaw(t.Context(), replay)
	require.NoError(t, err)
	require.Equal(t, emulator.RawReply{Status: 401, Body: "no"}, reply)
	require.Equal(t, sent[0].Header.Get("X-Slack-Signature"), b.app.last(t).header.Get("X-Slack-Signature"))

	payload, err := b.slack.Payload(emulator.Action{User: bo, Channel: channel, TS: ts, ActionID: "cs.approve", Confirm: true})
	require.NoError(t, err)
	require.True(t, json.Valid(payload))
	_, err = b.slack.SendRaw(t.Context(), emulator.Raw{Body: "payload=" + url.QueryEscape(strings.Replace(string(payload), bo, ana, 1)), Query: "payload=%7B%7D", Sign: true, SkewSeconds: -600})
	require.NoError(t, err)
	got := b.app.last(t)
	require.Equal(t, ana, at(got.payload, "user", "id"))
	unix, err := strconv.ParseInt(got.header.Get("X-Slack-Request-Timestamp"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, wallClock().Add(-10*time.Minute), time.Unix(unix, 0), time.Minute)
}

func TestConcurrentClicksAndUpdatesDoNotDisturbOneAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	b.app.answers(func(_ http.ResponseWriter, p object) {
		b.call("chat.update", "channel", channel, "ts", ts, "text", "t", "blocks", fixture(t, "pending"))
		b.call("views.open", "trigger_id", p["trigger_id"].(string), "view", fixture(t, "deny_modal"))
	})
	errs := make(chan error)
	for range 16 {
		go func() {
			_, err := b.slack.Click(t.Context(), bo, channel, ts, "cs.deny", true)
			b.slack.Snapshot()
			errs <- err
		}()
	}
	for range 16 {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 16, b.newest(channel).Revision)
	require.Len(t, b.slack.OpenViews(bo), 1)
}

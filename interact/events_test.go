package interact_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/interact"
	"countersign/slack/emulator"
)

// heard takes what a desk passes on.
type heard struct {
	mu    sync.Mutex
	words []string
	fail  error // what ChannelGone answers
}

func (h *heard) add(words string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.words = append(h.words, words)
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.words...)
}

func (h *heard) UserChanged(_ context.Context, id string)  { h.add("user " + id) }
func (h *heard) GroupChanged(_ context.Context, id string) { h.add("group " + id) }

func (h *heard) ChannelGone(_ context.Context, id, reason string) error {
	h.mu.Lock()
	err := h.fail
	h.mu.Unlock()
	if err == nil {
		h.add("gone " + id + " " + reason)
	}
	return err
}

func (h *heard) ChannelRenamed(_ context.Context, before, after string) error {
	h.add("renamed " + before + " " + after)
	return nil
}

func (h *heard) listen(c *interact.Config) {
	c.Facts, c.Channels = h, h
	c.Alarm = func(_ context.Context, what string) { h.add("alarm " + what) }
}

// eventful is an office whose desk passes on what it hears.
func eventful(t *testing.T) (*office, *heard) {
	t.Helper()
	h := &heard{}
	return openOffice(t, h.listen), h
}

// delivered waits until all events are.
func (o *office) delivered(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), unhurried)
	defer cancel()
	require.NoError(t, o.emu.WaitEvents(ctx), "wait for the events")
}

func TestSlackIsAnsweredItsChallenge(t *testing.T) {
	t.Parallel()
	o, _ := eventful(t)
	require.NoError(t, o.emu.VerifyEventsURL(t.Context()))
}

func TestEventsArePassedOnToWhomTheyConcern(t *testing.T) {
	t.Parallel()
	o, h := eventful(t)
	for _, step := range []struct {
		want string
		do   func()
	}{
		{"user U02BO", func() { o.emu.UpdateUser(bo, func(u *emulator.User) { u.Title = "Head of it" }) }},
		{"user U02NEW", func() { o.emu.PutUser(emulator.User{ID: "U02NEW", Name: "new"}) }},
		{"group S0ONCALL", func() { o.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{bo} }) }},
		{"gone C01BILLING is_archived", func() { o.emu.UpdateChannel(billingRoom, func(c *emulator.Channel) { c.Archived = true }) }},
		{"gone C03SECURITY externally_shared", func() { o.emu.UpdateChannel(securityRoom, func(c *emulator.Channel) { c.ExtShared = true }) }},
		{"renamed C03SECURITY C09SECURITY", func() { o.emu.RenameChannelID(securityRoom, "C09SECURITY") }},
	} {
		before := len(h.all())
		step.do()
		o.delivered(t)
		require.Contains(t, h.all()[before:], step.want)
	}
}

func TestAnEventIsDealtWithOnceHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	o, h := eventful(t)
	o.emu.UpdateUser(bo, func(u *emulator.User) { u.Title = "Head of it" })
	o.delivered(t)
	d := o.newest(t)
	for range 5 {
		reply := o.sendRaw(t, emulator.Raw{Body: d.Body, Sign: true, To: "events", Header: map[string]string{
			"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout",
		}})
		require.Equal(t, http.StatusOK, reply.Status, "Slack must not send it again and again")
	}
	require.Equal(t, []string{"user U02BO"}, h.all())
}

func TestARetryThatIsTheFirstToArriveCounts(t *testing.T) {
	t.Parallel()
	o, h := eventful(t)
	o.emu.UpdateUser(bo, func(u *emulator.User) { u.Title = "Head of it" })
	o.delivered(t)
	body := []byte(o.newest(t).Body)
	o.sabotage(t, `DELETE FROM slack_inbound`) // the first never arrived
	reply := o.sendRaw(t, emulator.Raw{Body: string(body), Sign: true, To: "events", Header: map[string]string{
		"X-Slack-Retry-Num": "3", "X-Slack-Retry-Reason": "http_error",
	}})
	require.Equal(t, http.StatusOK, reply.Status)
	require.Equal(t, []string{"user U02BO", "user U02BO"}, h.all())
}

func TestAnEventThatCannotBeCarriedOutIsFinishedLater(t *testing.T) {
	t.Parallel()
	o, h := eventful(t)
	h.fail = errors.New("the database is away")
	o.emu.UpdateChannel(billingRoom, func(c *emulator.Channel) { c.Archived = true })
	o.delivered(t)
	require.Empty(t, h.all())
	h.mu.Lock()
	h.fail = nil
	h.mu.Unlock()
	due, err := o.store.DueInbound(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, due, 1, "it is kept")
	require.NoError(t, o.desk.Finish(t.Context(), due[0]))
	require.Equal(t, []string{"gone C01BILLING is_archived"}, h.all())
	o.sabotage(t, `UPDATE slack_inbound SET lease_until = NULL`)
	due, err = o.store.DueInbound(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Empty(t, due, "it is done")
}

func TestAnAppThatIsUninstalledRaisesAnAlarm(t *testing.T) {
	t.Parallel()
	o, h := eventful(t)
	o.emu.RevokeTokens()
	o.delivered(t)
	o.emu.Uninstall()
	o.delivered(t)
	require.Subset(t, h.all(), []string{"alarm tokens_revoked"})
	require.Contains(t, o.logs.String(), `"level":"ERROR","msg":"slack takes nothing from us any more"`)
}

func TestAnEventOfAnotherWorkspaceOrAppChangesNothing(t *testing.T) {
	t.Parallel()
	o, h := eventful(t)
	for _, body := range []string{
		`{"type":"event_callback","team_id":"T0OTHER","api_app_id":"A0EMULATOR","event_id":"Ev1","event":{"type":"user_change","user":"U02BO"}}`,
		`{"type":"event_callback","team_id":"T0EMULATOR","api_app_id":"A0OTHER","event_id":"Ev2","event":{"type":"tokens_revoked"}}`,
		`{"type":"event_callback","team_id":"T0EMULATOR","api_app_id":"A0EMULATOR","event_id":"Ev3","event":{"type":"reaction_added"}}`,
	} {
		reply := o.sendRaw(t, emulator.Raw{Body: body, Sign: true, To: "events"})
		require.Equal(t, http.StatusOK, reply.Status)
	}
	reply := o.sendRaw(t, emulator.Raw{
		Body: `{"type":"event_callback","team_id":"T0EMULATOR","api_app_id":"A0EMULATOR","event_id":"Ev4","event":{"type":"tokens_revoked"}}`,
		To:   "events",
	})
	require.Equal(t, http.StatusUnauthorized, reply.Status, "not signed")
	require.Empty(t, h.all())
}

func TestOpeningTheHomeTabMakesItDue(t *testing.T) {
	t.Parallel()
	o, _ := eventful(t)
	for _, user := range []string{bo, dev} {
		_, err := o.emu.OpenHome(t.Context(), user)
		require.NoError(t, err)
	}
	o.delivered(t)
	homes, err := o.store.DueHomes(t.Context(), 10)
	require.NoError(t, err)
	got := map[string]string{}
	for _, h := range homes {
		got[h.SlackUser] = h.SlackTeam + " " + h.Person
		require.WithinDuration(t, o.clock.now(), h.DirtyAt, time.Hour)
	}
	require.Equal(t, map[string]string{bo: "T0EMULATOR bo", dev: "T0EMULATOR "}, got, "somebody who is not known is told so")
}

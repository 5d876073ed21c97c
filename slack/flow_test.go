package slack_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
	"countersign/slack/emulator"
)

// app receives interactions as the API will: verify, parse, answer.
type app struct {
	verifier *slack.Verifier
	got      chan slack.Interaction
	act      func(slack.Interaction) []byte
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		err = a.verifier.Verify(r.Header, raw)
	}
	if err != nil {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	in, err := slack.ParseInteraction(raw)
	if err != nil {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.act(in))
	a.got <- in
}

// listening starts an app behind an emulated workspace; it opens the deny modal by itself.
func listening(t *testing.T, onSubmit func(slack.Interaction) []byte) (*emulator.Server, *slack.Client, *app) {
	t.Helper()
	emu, client := workspace(t)
	verifier, err := slack.NewVerifier(slack.VerifierConfig{
		SigningSecrets: []slack.Secret{signingSecret}, Now: time.Now, //nolint:forbidigo // the emulator signs with the wall clock
	})
	require.NoError(t, err)
	v := pendingView(t, reasoned)
	a := &app{verifier: verifier, got: make(chan slack.Interaction, 10)}
	a.act = func(in slack.Interaction) []byte {
		switch {
		case in.Type == slack.ViewSubmission:
			return onSubmit(in)
		case in.ActionID == slack.ActionDeny:
			if err := client.OpenView(t.Context(), in.TriggerID, slack.DenyModal(v)); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	emu.SetInteractionsURL(srv.URL + "/slack/interactions")
	return emu, client, a
}

func TestAClickOnApproveArrivesAsPressedAfterItsConfirmation(t *testing.T) {
	t.Parallel()
	emu, client, app := listening(t, nil)
	ref, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
	require.NoError(t, err)
	seen, err := emu.Click(t.Context(), "U02BO", channel, ref.TS, slack.ActionApprove, false)
	require.NoError(t, err)
	require.False(t, seen.Sent)
	seen, err = emu.Click(t.Context(), "U02BO", channel, ref.TS, slack.ActionApprove, true)
	require.NoError(t, err)
	require.Empty(t, seen.Warning)
	in := <-app.got
	require.Equal(t, slack.BlockActions, in.Type)
	require.Equal(t, slack.User{ID: "U02BO", TeamID: "T0EMULATOR"}, in.User)
	require.Equal(t, []string{ref.Channel, ref.TS, slack.ActionApprove, handle}, []string{in.Channel, in.MessageTS, in.ActionID, in.Handle})
	require.Equal(t, []string{"T0EMULATOR", "A0EMULATOR"}, []string{in.TeamID, in.AppID})

	require.NoError(t, client.Respond(t.Context(), in.ResponseURL, slack.Refusal("not_approver", "")+" <!channel>"))
	whispers := emu.Ephemerals("U02BO")
	require.Len(t, whispers, 1)
	require.Contains(t, whispers[0].Text, "You are not an approver for this request")
	require.Contains(t, whispers[0].Text, "<!channel>")
	require.Empty(t, emu.Ephemerals("U02CHEN"))
}

func TestADenialAsksForItsReasonAndCanBeCorrected(t *testing.T) {
	t.Parallel()
	emu, client, app := listening(t, func(in slack.Interaction) []byte {
		switch {
		case strings.HasPrefix(in.Typed(), "again"):
			return slack.AckError(slack.ReasonBlock, "Please say more.")
		case strings.HasPrefix(in.Typed(), "late"):
			return slack.AckNotice("This request is already closed.")
		}
		return nil
	})
	ref, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
	require.NoError(t, err)
	seen, err := emu.Click(t.Context(), "U02CHEN", channel, ref.TS, slack.ActionDeny, true)
	require.NoError(t, err)
	require.Empty(t, seen.Warning)
	require.NotNil(t, seen.OpenedView)
	require.Contains(t, seen.OpenedView.Text, "DELETE https://billing.internal/v1/customers/42?hard=true")
	<-app.got
	submit := func(reason string) emulator.Seen {
		seen, err := emu.SubmitView(t.Context(), "U02CHEN", seen.OpenedView.ID, map[string]map[string]string{"reason": {"v": reason}})
		require.NoError(t, err)
		return seen
	}
	require.False(t, submit("no").Sent, "shorter than the modal allows")
	require.Equal(t, map[string]string{"reason": "Please say more."}, submit("again: no").Errors)
	require.Empty(t, submit("late as it is").Warning)
	views := emu.OpenViews("U02CHEN")
	require.Len(t, views, 1)
	require.Contains(t, views[0].Text, "This request is already closed.")
	<-app.got
	in := <-app.got
	require.Equal(t, []string{handle, slack.CallbackDeny, "late as it is"}, []string{in.Handle, in.View.CallbackID, in.Typed()})
}

func TestWhatSlackDidNotSignDoesNotCount(t *testing.T) {
	t.Parallel()
	emu, client, app := listening(t, nil)
	ref, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
	require.NoError(t, err)
	payload, err := emu.Payload(emulator.Action{User: "U02BO", Channel: channel, TS: ref.TS, ActionID: slack.ActionApprove, Confirm: true})
	require.NoError(t, err)
	body, forged := string(formOf(string(payload))), string(formOf(strings.ReplaceAll(string(payload), "U02BO", "U02EVE")))
	for name, raw := range map[string]emulator.Raw{
		"no signature":          {Body: body},
		"old":                   {Body: body, Sign: true, SkewSeconds: -400},
		"from the future":       {Body: body, Sign: true, SkewSeconds: 400},
		"payload in the query":  {Query: forged, Sign: true},
		"payload twice, signed": {Body: body + "&" + forged, Sign: true},
	} {
		reply, err := emu.SendRaw(t.Context(), raw)
		require.NoError(t, err, name)
		require.NotEqual(t, http.StatusOK, reply.Status, name)
	}
	reply, err := emu.SendRaw(t.Context(), emulator.Raw{Body: body, Query: forged, Sign: true})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, reply.Status)
	require.Equal(t, "U02BO", (<-app.got).User.ID, "the query is not signed and must not count")
}

func TestEveryModalIsOpenedFilledInAndSentOff(t *testing.T) {
	t.Parallel()
	v := viewOf(submitted(t, submission(), breakable()), 0)
	emu, client, app := listening(t, func(slack.Interaction) []byte { return nil })
	opening := app.act
	app.act = func(in slack.Interaction) []byte {
		m, ok := slack.Modal(v, in.ActionID)
		if !ok {
			return opening(in)
		}
		if err := client.OpenView(t.Context(), in.TriggerID, m); err != nil {
			t.Error(err)
		}
		return nil
	}
	ref, err := client.Post(t.Context(), channel, slack.Card(v), slack.PostOptions{})
	require.NoError(t, err)
	for action, text := range map[string]string{
		slack.ActionDeny: "", slack.ActionAsk: "Which <!channel>?", slack.ActionBreakGlass: "production is down",
	} {
		seen, err := emu.Click(t.Context(), "U02BO", channel, ref.TS, action, true)
		require.NoError(t, err, action)
		require.NotNil(t, seen.OpenedView, action)
		<-app.got
		seen, err = emu.SubmitView(t.Context(), "U02BO", seen.OpenedView.ID, map[string]map[string]string{slack.InputOf(action): {slack.InputAction: text}})
		require.NoError(t, err, action)
		require.Empty(t, seen.Errors, action)
		require.True(t, seen.Closed, action)
		in := <-app.got
		require.Equal(t, []string{action, text, handle}, []string{in.View.CallbackID, in.Typed(), in.Handle})
	}
}

func TestAReviewIsReadPageByPageAndApprovedOnItsLast(t *testing.T) {
	t.Parallel()
	v := withConfirm(pendingView(t, withBody(longBody(20_000))), approvals.ConfirmCode)
	review := slack.NewReview(v)
	emu, client, app := listening(t, func(slack.Interaction) []byte { return nil })
	page := 1
	app.act = func(in slack.Interaction) []byte {
		var err error
		switch in.ActionID {
		case slack.ActionApprove, slack.ActionView:
			err = client.OpenView(t.Context(), in.TriggerID, review.Modal(reviewHandle, page, slack.ReviewApprove))
		case slack.ActionNext, slack.ActionPrev:
			page += map[string]int{slack.ActionNext: 1, slack.ActionPrev: -1}[in.ActionID]
			err = client.UpdateView(t.Context(), in.View.ID, in.View.Hash, review.Modal(reviewHandle, page, slack.ReviewApprove))
		}
		if err != nil {
			t.Error(err)
		}
		return nil
	}
	ref, err := client.Post(t.Context(), channel, slack.Card(v), slack.PostOptions{})
	require.NoError(t, err)
	seen, err := emu.Click(t.Context(), "U02BO", channel, ref.TS, slack.ActionApprove, true)
	require.NoError(t, err)
	require.NotNil(t, seen.OpenedView)
	require.Contains(t, seen.OpenedView.Text, "Page 1 of 3")
	<-app.got
	for i, action := range []string{slack.ActionNext, slack.ActionNext, slack.ActionPrev, slack.ActionNext} {
		_, err = emu.Do(t.Context(), emulator.Action{User: "U02BO", ViewID: seen.OpenedView.ID, ActionID: action})
		require.NoError(t, err)
		in := <-app.got
		require.Equal(t, []string{reviewHandle, string(slack.SurfaceModal), seen.OpenedView.ID}, []string{in.Handle, string(in.Surface), in.View.ID})
		require.Contains(t, emu.OpenViews("U02BO")[0].Text, []string{"Page 2 of 3", "Page 3 of 3", "Page 2 of 3", "Page 3 of 3"}[i])
	}
	digits := v.Fingerprint[len(v.Fingerprint)-4:]
	seen, err = emu.SubmitView(t.Context(), "U02BO", seen.OpenedView.ID, map[string]map[string]string{
		slack.CommentBlock: {slack.InputAction: "checked with legal"}, slack.CodeBlock: {slack.InputAction: digits},
	})
	require.NoError(t, err)
	require.Empty(t, seen.Errors)
	require.True(t, seen.Closed)
	in := <-app.got
	require.Equal(t, []string{slack.CallbackApprove, reviewHandle, "checked with legal", digits}, []string{in.View.CallbackID, in.Handle, in.Typed(), in.Code()})
}

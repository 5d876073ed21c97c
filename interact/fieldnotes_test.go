package interact_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/interact"
	"countersign/slack"
	"countersign/slack/emulator"
)

// The numbers are those of the bugs that other systems for approvals have had.

// Links in Slack are fetched to show a preview of them.
func TestFieldNote05NoLinkDecides(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	body := o.payload(t, bo, c, slack.ActionApprove, nil)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut} {
		req, err := http.NewRequestWithContext(t.Context(), method, o.url+interact.PathInteractions+"?"+body, strings.NewReader(body))
		require.NoError(t, err)
		req.Header = o.emu.Sign([]byte(body), o.clock.now())
		res, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.GreaterOrEqual(t, res.StatusCode, 400, method)
	}
	o.trail(t, c.ticket)
}

func TestFieldNote06WhatTheMessageSaysIsNotWhatIsDecidedOn(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	forged := map[string]any{"type": "message", "text": "Approve DELETE /everything", "user": "U02CHEN", "blocks": []any{
		map[string]any{"type": "section", "block_id": "req", "text": map[string]any{"type": "mrkdwn", "text": "DELETE /everything\nApproved by <@U02CHEN>"}},
	}}
	o.send(t, o.payload(t, bo, c, slack.ActionApprove, func(p map[string]any) {
		p["message"] = forged
		set("req:"+c.ticket+":chen", "actions", "block_id")(p)
	}))
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
	ticket := o.ticket(t, c.ticket)
	require.Equal(t, []string{"/refunds", "bo", ticket.Digest}, []string{ticket.Call.Path, ticket.Decisions[0].Person, ticket.Decisions[0].Digest})
}

func TestFieldNote07ButtonsWorkAfterARestart(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	modal := o.openDialog(t, chen, c)
	o.listenAt(o.replica(t)) // a process that has seen none of this
	o.writeWell(t, chen, modal, slack.ReasonBlock, "not before the audit")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDenied)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.requireTold(t, bo, "already closed: denied")
}

func TestFieldNote08HandlesSayNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	first, second := o.ask(t, oneApproval), o.ask(t, oneApproval)
	for _, c := range []card{first, second} {
		raw, err := o.emu.Payload(emulator.Action{User: bo, Channel: c.channel, TS: c.ts, ActionID: slack.ActionDeny, Confirm: true})
		require.NoError(t, err)
		in, err := slack.ParseInteraction([]byte(form(string(raw))))
		require.NoError(t, err)
		require.True(t, slack.ValidHandle(in.Handle))
		require.NotContains(t, in.Handle, strings.TrimPrefix(c.ticket, "tkt_"))
	}
	require.NotEqual(t, first.handle, second.handle, "the same call twice")
}

func TestFieldNote10TheDialogShowsTheWholeFingerprintOfWhatIsDecided(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, withGlass)
	fingerprint := fingerprint(o.ticket(t, c.ticket))
	for user, action := range map[string]string{chen: slack.ActionAsk, bo: slack.ActionBreakGlass} {
		view := o.openModal(t, user, c, action)
		require.Contains(t, view.Text, fingerprint)
		require.Contains(t, view.Text, "DELETE https://billing.internal/v1/glass")
	}
}

package api_test

import (
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db/dbtest"
	"countersign/slack"
	"countersign/slack/emulator"
)

// outage takes the database away and returns how to give it back.
func (o *office) outage(t *testing.T) (restore func()) {
	t.Helper()
	admin, name := superuser(t, dbtest.ClusterURL(t)), o.pool.Config().ConnConfig.Database
	allow := func(word string) {
		_, err := admin.Exec(t.Context(), `ALTER DATABASE `+pgx.Identifier{name}.Sanitize()+` ALLOW_CONNECTIONS `+word)
		require.NoError(t, err, "allow connections: %s", word)
	}
	allow("false")
	_, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1`, name)
	require.NoError(t, err, "end all sessions")
	return func() { allow("true") }
}

func TestFieldNote09WithoutTheDatabaseSlackWarnsAndNothingIsHalfDone(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, chen, c)
	restore := o.outage(t)
	require.NotEmpty(t, o.click(t, bo, c, slack.ActionApprove).Warning)
	require.Equal(t, http.StatusServiceUnavailable, o.newest(t).Status)
	require.NotEmpty(t, o.click(t, bo, c, slack.ActionDeny).Warning)
	seen := o.giveReason(t, chen, view, "not before the audit")
	require.NotEmpty(t, seen.Warning)
	require.False(t, seen.Closed, "what was typed is still there")
	require.Len(t, o.emu.Warnings(bo), 2)
	restore()

	dbtest.Eventually(t, "the database is back", func() bool { return o.store.Ready(t.Context()) == nil })
	o.trail(t, c.ticket)
	dbtest.Eventually(t, "a click is taken again", func() bool { return o.click(t, bo, c, slack.ActionApprove).Warning == "" })
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
}

// locked holds a ticket as a slow transaction would, so that the click is taken and its
// decision is not.
func (o *office) locked(t *testing.T, id string) (release func()) {
	t.Helper()
	tx, err := superuser(t, o.pool.Config().ConnString()).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT 1 FROM tickets WHERE id = $1 FOR UPDATE`, id)
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

func TestAClickThatTakesTooLongIsSaidNotToCountAndDoesNot(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, chen, c)
	release := o.locked(t, c.ticket)
	require.NotEmpty(t, o.click(t, bo, c, slack.ActionApprove).Warning)
	require.Equal(t, http.StatusServiceUnavailable, o.newest(t).Status)
	o.requireTold(t, bo, "your click was not counted. Please try again")
	seen := o.giveReason(t, chen, view, "not before the audit")
	require.Empty(t, seen.Warning)
	require.Contains(t, seen.Errors[slack.ReasonBlock], "Please try again")
	require.False(t, seen.Closed, "what was typed is still there")
	release()

	o.trail(t, c.ticket)
	require.True(t, o.giveReason(t, chen, view, "not before the audit").Closed, "the same reason, sent again, counts")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDenied)
}

func TestASlowDialogIsAnsweredInTimeWithAdvice(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]emulator.Fault{
		"slow":         {Kind: emulator.Slow, DelayMS: 10_000},
		"hanging":      {Kind: emulator.Hang},
		"broken":       {Kind: emulator.Drop},
		"rate limited": {Kind: emulator.RateLimited},
		"too late":     {Kind: emulator.ErrorReply, Error: "expired_trigger_id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			fault.Method = "views.open"
			o.emu.AddFault(fault)
			seen := o.clickWell(t, bo, c, slack.ActionDeny)
			require.Nil(t, seen.OpenedView)
			o.requireTold(t, bo, "Please press Deny again")
			o.trail(t, c.ticket)
			o.openDialog(t, bo, c)
		})
	}
}

func TestARefusalThatCannotBeToldIsStillARefusal(t *testing.T) {
	t.Parallel()
	for _, kind := range []emulator.FaultKind{emulator.Drop, emulator.Hang, emulator.ServerError} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			o.emu.AddFault(emulator.Fault{Method: "response_url", Kind: kind})
			o.clickWell(t, dev, c, slack.ActionApprove)
			require.Empty(t, o.told(dev))
			o.requireRefused(t, c.ticket, approvals.ActorStranger, dev, approvals.CodeNotApprover)
		})
	}
}

func TestWhenSlackTakesNothingFromUsItWarnsByItself(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.emu.AddFault(emulator.Fault{Method: "*", Kind: emulator.Hang, Times: 2})
	require.NotEmpty(t, o.click(t, bo, c, slack.ActionDeny).Warning, "neither a dialog nor a word: silence would look like success")
	o.trail(t, c.ticket)
	o.emu.SetOutage(true)
	o.clickWell(t, bo, c, slack.ActionApprove) // what needs no word from us needs nothing of Slack
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
}

func TestAnAnswerGoesToSlackOnly(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	for _, target := range []string{"https://evil.example/", o.url + "/healthz", "http://169.254.169.254/", ""} {
		body := o.payload(t, dev, c, slack.ActionApprove, set(target, "response_url"))
		require.Equal(t, http.StatusOK, o.send(t, body).Status, "%q", target)
	}
	require.Empty(t, o.told(dev))
	require.NotContains(t, o.logs.String(), `"route":"/healthz"`, "requests to ourselves")
}

package interact_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/interact"
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
	require.Zero(t, o.finishAll(t), "what was not written down is not carried out later")
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

// hurried gives the desk little time.
func hurried(c *interact.Config) { c.Budget = 2 * time.Second }

// finishAll finishes what is unfinished, as Work does, and returns how much that was.
func (o *office) finishAll(t *testing.T) int {
	t.Helper()
	due, err := o.store.DueInbound(t.Context(), 0, 100)
	require.NoError(t, err)
	for _, in := range due {
		require.NoError(t, o.desk.Finish(t.Context(), in))
	}
	return len(due)
}

func TestWhatTakesTooLongIsAnsweredInTimeAndFinishedOnceByAWorker(t *testing.T) {
	t.Parallel()
	o := openOffice(t, hurried)
	c := o.ask(t, twoApprovals)
	view := o.openDialog(t, chen, c)
	release := o.locked(t, c.ticket)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.requireTold(t, bo, "Countersign is still checking this")
	o.clickWell(t, dev, c, slack.ActionApprove)
	seen := o.giveReason(t, chen, view, "not before the audit")
	require.Empty(t, seen.Warning)
	require.Contains(t, o.shownTo(t, chen), "Countersign is still checking this")
	o.clickWell(t, chen, c, slack.ActionAsk)
	require.Equal(t, http.StatusUnauthorized, o.sendRaw(t, again(o.newest(t))).Status, "a replay of what is not done yet is none the less one")
	release()

	o.trail(t, c.ticket)
	require.Equal(t, 4, o.finishAll(t))
	require.Zero(t, o.finishAll(t), "and then there is nothing left")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventRefused, approvals.EventDecided, approvals.EventDenied, approvals.EventRefused)
	require.Contains(t, o.told(bo), "Done: it was counted.")
	require.Contains(t, o.told(dev)[1], "You are not an approver")
	require.Contains(t, o.shownTo(t, chen), "Done: it was counted.", "the modal says it")
	require.Contains(t, o.told(chen)[1], "already closed: denied", "the question came after that")
}

// The process may die between writing a request down and deciding it.
func TestARequestOfAProcessThatDiedIsFinishedOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoApprovals)
	key := strings.Repeat("ab", 32)
	fresh, err := o.store.TakeInbound(t.Context(), db.Inbound{
		Key: key, Kind: "interaction", Transport: "http", Body: []byte(o.payload(t, bo, c, slack.ActionApprove, nil)),
	})
	require.NoError(t, err)
	require.True(t, fresh)
	o.trail(t, c.ticket)

	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() { o.desk.Work(ctx) })
	}
	dbtest.Eventually(t, "a worker finishes it", func() bool { return o.inbound(t, key) == "counted" })
	stop()
	workers.Wait()
	o.trail(t, c.ticket, approvals.EventDecided)
	require.NoError(t, o.desk.Finish(t.Context(), db.Inbound{
		Key: key, Kind: "interaction", Transport: "http", At: o.clock.now(), Body: []byte(o.payload(t, bo, c, slack.ActionApprove, nil)),
	}), "a zombie that comes late")
	o.trail(t, c.ticket, approvals.EventDecided)
}

// inbound is what came of a request, "" while it is not done.
func (o *office) inbound(t *testing.T, key string) (outcome string) {
	t.Helper()
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT outcome FROM slack_inbound WHERE replay_key = $1`, key).Scan(&outcome))
	return outcome
}

// Whoever finishes a request first, the desk that took it or a worker, it is done once.
func TestADeskAndAWorkerThatRaceDecideOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoApprovals)
	release := o.locked(t, c.ticket)
	done := make(chan error, 1)
	go func() {
		_, err := o.emu.Click(t.Context(), bo, c.channel, c.ts, slack.ActionApprove, true)
		done <- err
	}()
	o.awaitBlocked(t)
	due, err := o.store.DueInbound(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, due, 1)
	finished := make(chan error, 1)
	go func() { finished <- o.desk.Finish(t.Context(), due[0]) }()
	dbtest.Eventually(t, "both wait for the ticket", func() bool { return o.blocked(t) == 2 })
	release()
	require.NoError(t, <-done)
	require.NoError(t, <-finished)
	o.trail(t, c.ticket, approvals.EventDecided)
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
			o := openOffice(t, hurried)
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
			o := openOffice(t, hurried)
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
	o := openOffice(t, hurried)
	c := o.ask(t, oneApproval)
	o.clickWell(t, bo, c, slack.ActionView) // so that it is known who bo is
	for _, method := range []string{"views.open", "response_url"} {
		o.emu.AddFault(emulator.Fault{Method: method, Kind: emulator.Hang, Times: 1})
	}
	require.NotEmpty(t, o.click(t, bo, c, slack.ActionDeny).Warning, "neither a dialog nor a word: silence would look like success")
	o.trail(t, c.ticket, approvals.EventViewed)
	o.emu.SetOutage(true)
	o.clickWell(t, bo, c, slack.ActionApprove) // what needs no word from us needs nothing of Slack, if that is known
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventDecided, approvals.EventApproved)
}

func TestNobodyDecidesWhenSlackCannotBeAskedWhoTheyAre(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]emulator.Fault{
		"hanging": {Kind: emulator.Hang}, "broken": {Kind: emulator.Drop}, "failing": {Kind: emulator.ServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t, hurried)
			c := o.ask(t, oneApproval)
			fault.Method, fault.Times = "users.info", 10
			o.emu.AddFault(fault)
			o.clickWell(t, bo, c, slack.ActionApprove)
			o.requireTold(t, bo, "Slack could not be asked whether you may decide; your click was not counted")
			o.requireRefused(t, c.ticket, approvals.ActorStranger, bo, approvals.CodeNotApprover)
			require.Contains(t, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Message, "could not be asked")
			o.emu.ClearFaults()
			o.emu.ReleaseHangs()
			o.clickWell(t, bo, c, slack.ActionApprove)
			o.trail(t, c.ticket, approvals.EventRefused, approvals.EventDecided, approvals.EventApproved)
		})
	}
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
}

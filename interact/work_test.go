package interact_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/interact"
	"countersign/slack"
)

// left writes a request down as a desk does that then dies.
func (o *office) left(t *testing.T, digit, body string) db.Inbound {
	t.Helper()
	in := db.Inbound{Key: strings.Repeat(digit, 64), Kind: "interaction", Transport: "http", Body: []byte(body), At: o.clock.now()}
	fresh, err := o.store.TakeInbound(t.Context(), in)
	require.NoError(t, err)
	require.True(t, fresh)
	return in
}

func TestADialogIsNotOpenedLongAfterThePress(t *testing.T) {
	t.Parallel()
	for action, name := range map[string]string{
		slack.ActionDeny: "Deny", slack.ActionAsk: "Ask for details", slack.ActionView: "View full request",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			o.left(t, "a", o.payload(t, bo, c, action, nil))
			require.Equal(t, 1, o.finishAll(t))
			o.requireTold(t, bo, "Please press "+name+" again")
			require.Empty(t, o.emu.OpenViews(bo))
			o.trail(t, c.ticket)
			require.Equal(t, "allowed", o.inbound(t, strings.Repeat("a", 64)))
		})
	}
}

func TestWhatIsElsewhereIsFinishedToo(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.left(t, "a", o.payload(t, bo, c, slack.ActionApprove, set("A0OTHER", "api_app_id")))
	o.left(t, "b", "payload=of another build")
	require.Equal(t, 2, o.finishAll(t))
	require.Equal(t, "refused: not_found", o.inbound(t, strings.Repeat("a", 64)))
	require.Equal(t, "unreadable", o.inbound(t, strings.Repeat("b", 64)))
	o.trail(t, c.ticket)
}

func TestARequestThatCannotBeFinishedIsGivenUpInTheEndAndThatIsSaid(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	in := o.left(t, "a", o.payload(t, bo, c, slack.ActionApprove, nil))
	o.sabotage(t, `CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'`)
	o.sabotage(t, `CREATE TRIGGER refuse_all BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_all()`)
	in.Attempts = 1
	require.Error(t, o.desk.Finish(t.Context(), in))
	require.Empty(t, o.inbound(t, in.Key), "it is tried again")
	require.Empty(t, o.told(bo))
	in.Attempts = 20
	require.NoError(t, o.desk.Finish(t.Context(), in))
	require.Equal(t, "given up", o.inbound(t, in.Key))
	o.requireTold(t, bo, "your click was not counted")
	require.Contains(t, o.logs.String(), "gave up a Slack request")
	o.trail(t, c.ticket)
}

func TestAClickThatWaitedForLongIsNotCounted(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	in := o.left(t, "a", o.payload(t, bo, c, slack.ActionApprove, nil))
	in.At = o.clock.now().Add(-11 * time.Minute) // while the service was away
	require.NoError(t, o.desk.Finish(t.Context(), in))
	require.Equal(t, "too late", o.inbound(t, in.Key))
	o.requireTold(t, bo, "it was not counted. If you still mean it")
	o.trail(t, c.ticket)
}

func TestWhatCameLongAgoIsJudgedAsThingsAreNow(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.left(t, "a", o.payload(t, bo, c, slack.ActionApprove, nil))
	o.configure("fay")
	require.Equal(t, 1, o.finishAll(t))
	o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeNotApprover)
}

// The same desk takes what comes over a socket.
func TestWhatComesOverASocketDecides(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	plain, secure := egress.SlackSocket(egress.SlackSocketConfig{AllowLoopback: true})
	socket, err := slack.NewSocket(slack.SocketConfig{
		AppToken: appToken, APIURL: o.emu.APIURL(), HTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: true}),
		Dial: plain, DialTLS: secure, Connections: 1, HandleFor: unhurried, Now: wallClock,
		Handle: func(ctx context.Context, e slack.Envelope) slack.Ack {
			require.Equal(t, slack.EnvelopeInteraction, e.Type)
			ack := o.desk.Handle(ctx, interact.Envelope{
				Kind: interact.KindInteraction, Transport: interact.TransportSocket, Key: e.ID, Body: e.Payload,
			})
			return slack.Ack{Done: ack.Status != http.StatusServiceUnavailable, Payload: ack.Body}
		},
	})
	require.NoError(t, err)
	o.emu.SetSocketMode(true)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- socket.Run(ctx) }()
	dbtest.Eventually(t, "the socket is open", func() bool { return o.emu.Sockets() == 1 })
	view := o.openDialog(t, bo, c)
	seen := o.giveReason(t, bo, view, "  no      ")
	require.Contains(t, seen.Errors[slack.ReasonBlock], "at least 5 characters", "what the acknowledgement says")
	o.clickWell(t, chen, c, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
	stop()
	require.NoError(t, <-done)
}

// wallClock is what the service goes by.
func wallClock() time.Time {
	return time.Now() //nolint:forbidigo // sockets are kept alive by the real clock
}

package interact_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/interact"
	"countersign/slack"
	"countersign/slack/emulator"
)

func TestWhatSlackDidNotSignDecidesNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	body := o.payload(t, bo, c, slack.ActionApprove, nil)
	at := time.Unix(o.clock.now().Unix(), 0)
	signed := o.emu.Sign([]byte(body), at)
	signature, stamp := signed.Get("X-Slack-Signature"), signed.Get("X-Slack-Request-Timestamp")
	for name, raw := range map[string]emulator.Raw{
		"no headers":           {Body: body},
		"no timestamp":         {Body: body, Header: map[string]string{"X-Slack-Signature": signature}},
		"no signature":         {Body: body, Header: map[string]string{"X-Slack-Request-Timestamp": stamp}},
		"a forged signature":   {Body: body, Header: map[string]string{"X-Slack-Signature": "v0=" + strings.Repeat("0", 64), "X-Slack-Request-Timestamp": stamp}},
		"in upper case":        {Body: body, Header: map[string]string{"X-Slack-Signature": strings.ToUpper(signature), "X-Slack-Request-Timestamp": stamp}},
		"of another body":      {Body: strings.Replace(body, "U02BO", "U02CHEN", 1), Header: map[string]string{"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": stamp}},
		"of another time":      {Body: body, Header: map[string]string{"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": stamp + "0"}},
		"expired":              {Body: body, Sign: true, SkewSeconds: -400},
		"from the future":      {Body: body, Sign: true, SkewSeconds: 400},
		"everything but bytes": {Sign: false, Query: body, Header: map[string]string{"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": stamp}},
	} {
		reply := o.sendRaw(t, raw)
		require.Equal(t, http.StatusUnauthorized, reply.Status, name)
		require.Contains(t, reply.Body, `"code":"unauthenticated"`, name)
	}
	o.trail(t, c.ticket)
	require.Equal(t, http.StatusOK, o.sendRaw(t, emulator.Raw{Body: body, Header: map[string]string{
		"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": stamp,
	}}).Status, "untampered, it counts")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
}

func TestAPayloadInTheQueryIsIgnored(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	as := func(user string) string { return o.payload(t, user, c, slack.ActionApprove, nil) }
	require.Equal(t, http.StatusBadRequest, o.sendRaw(t, emulator.Raw{Query: as(bo), Sign: true}).Status, "no body")
	require.Equal(t, http.StatusBadRequest, o.send(t, as(dev)+"&"+as(bo)).Status, "two payloads")
	o.trail(t, c.ticket)
	require.Equal(t, http.StatusOK, o.sendRaw(t, emulator.Raw{Body: as(dev), Query: as(bo), Sign: true}).Status)
	o.requireRefused(t, c.ticket, approvals.ActorStranger, dev, approvals.CodeNotApprover)
}

func TestTenThousandReplaysDoNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoApprovals)
	o.clickWell(t, bo, c, slack.ActionApprove)
	raw := again(o.newest(t))
	var wg sync.WaitGroup
	statuses := make(chan int, 10_000)
	for range 8 {
		wg.Go(func() {
			for range 1250 {
				reply, err := o.emu.SendRaw(t.Context(), raw)
				if err != nil {
					t.Errorf("replay: %v", err)
				}
				statuses <- reply.Status
			}
		})
	}
	wg.Wait()
	close(statuses)
	for status := range statuses {
		require.Equal(t, http.StatusUnauthorized, status, "answer to a replay")
	}
	o.trail(t, c.ticket, approvals.EventDecided)
	require.Empty(t, o.told(bo), "nobody is told anything")
	require.Equal(t, 10, strings.Count(o.logs.String(), "a request that was taken before"), "an operator is, within bounds")
}

func TestAReplayOfARefusalIsNotRecordedAgain(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.clickWell(t, dev, c, slack.ActionApprove)
	raw := again(o.newest(t))
	for range 10 {
		require.Equal(t, http.StatusUnauthorized, o.sendRaw(t, raw).Status)
	}
	o.trail(t, c.ticket, approvals.EventRefused)
	require.Len(t, o.told(dev), 1)
}

func TestAReplayOfAReasonDeniesOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.giveReason(t, bo, o.openDialog(t, bo, c), "not before the audit")
	require.Equal(t, http.StatusUnauthorized, o.sendRaw(t, again(o.newest(t))).Status)
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDenied)
}

func TestAnotherAppOrWorkspaceIsRefusedAndLogged(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	for name, change := range map[string]func(map[string]any){
		"app":               set("A0OTHER", "api_app_id"),
		"workspace":         set("T0PARTNER", "team", "id"),
		"organisation only": func(p map[string]any) { p["team"], p["enterprise"] = nil, map[string]any{"id": "E0ORG"} },
	} {
		for _, action := range []string{slack.ActionApprove, slack.ActionDeny} {
			require.Equal(t, http.StatusOK, o.send(t, o.payload(t, bo, c, action, change)).Status, "%s: %s", name, action)
		}
	}
	require.Len(t, o.told(bo), 6)
	require.Contains(t, o.told(bo)[0], "no longer leads to a request")
	require.Equal(t, 6, strings.Count(o.logs.String(), "a click from another workspace or app"))
	o.trail(t, c.ticket)
	require.Equal(t, http.StatusOK, o.send(t, o.payload(t, bo, c, slack.ActionApprove, set("T0PARTNER", "user", "team_id"))).Status)
	o.requireRefused(t, c.ticket, approvals.ActorStranger, bo, approvals.CodeNotApprover)
}

func TestAModalOfAnotherAppIsRefused(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	reply := o.send(t, form(`{"type":"view_submission","team":{"id":"T0EMULATOR"},"user":{"id":"U02BO","team_id":"T0EMULATOR"},`+
		`"api_app_id":"A0OTHER","view":{"id":"V1","callback_id":"cs.deny","private_metadata":"{\"h\":\"`+c.handle+`\"}",`+
		`"state":{"values":{"reason":{"v":{"value":"long enough"}}}}}}`))
	require.Equal(t, http.StatusOK, reply.Status)
	require.Contains(t, reply.Body, "no longer leads to a request")
	o.trail(t, c.ticket)
}

func TestABodyOverOneMebibyteIsRefused(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	body := o.payload(t, bo, c, slack.ActionApprove, nil)
	body += "&more="
	over := body + strings.Repeat("x", slack.MaxInteraction+1-len(body))
	reply := o.send(t, over)
	require.Equal(t, http.StatusRequestEntityTooLarge, reply.Status)
	require.Contains(t, reply.Body, `"code":"body_too_large"`)
	o.trail(t, c.ticket)
	require.Equal(t, http.StatusOK, o.send(t, over[:slack.MaxInteraction]).Status, "one byte less is read")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
}

func TestWhatCannotBeReadIsABadRequest(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for _, body := range []string{"", "payload=", "payload=%7B%7D", "payload=%zz", form(`{"type":"block_actions"`), `{"type":"url_verification"}`} {
		reply := o.send(t, body)
		require.Equal(t, http.StatusBadRequest, reply.Status, "%q", body)
		require.Contains(t, reply.Body, `"code":"bad_request"`, "%q", body)
	}
}

func TestForgeriesCannotFloodTheLog(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for range 50 {
		require.Equal(t, http.StatusUnauthorized, o.sendRaw(t, emulator.Raw{Body: "payload=%7B%7D"}).Status)
	}
	require.Equal(t, 10, strings.Count(o.logs.String(), "refused a request to the Slack endpoint"), "warnings")
}

func TestADeskNeedsWhatItCannotDoWithout(t *testing.T) {
	t.Parallel()
	_, err := interact.New(interact.Config{})
	for _, name := range []string{"Store", "Policy", "Fresh", "Client", "Now"} {
		require.ErrorContains(t, err, name+" is required")
	}
}

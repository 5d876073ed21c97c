package interact_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/interact"
	"countersign/slack"
)

// envelope is what comes over a socket when somebody presses a button.
func (o *office) envelope(t *testing.T, id, user string, c card, action string) interact.Envelope {
	t.Helper()
	payload, err := url.QueryUnescape(strings.TrimPrefix(o.payload(t, user, c, action, nil), "payload="))
	require.NoError(t, err)
	return interact.Envelope{Kind: interact.KindInteraction, Transport: interact.TransportSocket, Key: id, Body: []byte(payload)}
}

func TestAnEnvelopeDecidesAndItsRedeliveryIsAcknowledgedAndDoesNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoApprovals)
	e := o.envelope(t, "envelope-1", bo, c, slack.ActionApprove)
	for range 3 {
		require.Equal(t, interact.Ack{Status: http.StatusOK}, o.desk.Handle(t.Context(), e))
	}
	o.trail(t, c.ticket, approvals.EventDecided)
	require.Empty(t, o.told(bo))
	require.Equal(t, http.StatusOK, o.desk.Handle(t.Context(), o.envelope(t, "envelope-2", bo, c, slack.ActionApprove)).Status)
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventRefused)
}

func TestAnEnvelopeThatCannotBeReadIsNotTaken(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for _, e := range []interact.Envelope{
		{},
		{Kind: "other", Transport: interact.TransportSocket, Body: []byte("{}")},
		{Kind: interact.KindInteraction, Transport: interact.TransportSocket, Body: []byte("payload={}")},
		{Kind: interact.KindCommand, Transport: interact.TransportSocket, Body: []byte("{}")},
		{Kind: interact.KindEvent, Transport: interact.TransportSocket, Body: []byte("null")},
	} {
		require.Equal(t, http.StatusBadRequest, o.desk.Handle(t.Context(), e).Status)
	}
}

func TestOverASocketNothingIsTakenOverHTTP(t *testing.T) {
	t.Parallel()
	o := openOffice(t, func(c *interact.Config) { c.Verifier = nil })
	c := o.ask(t, oneApproval)
	require.Equal(t, http.StatusUnauthorized, o.send(t, o.payload(t, bo, c, slack.ActionApprove, nil)).Status)
	o.trail(t, c.ticket)
}

func TestWhatSlackNeverCallsIsNotThere(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for _, path := range []string{"/", "/slack", "/slack/interactions/", "/slack/other"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.url+path, nil)
		require.NoError(t, err)
		res, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusNotFound, res.StatusCode, path)
	}
}

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db/dbtest"
	"countersign/slack/emulator"
)

// recorded is a request that a recorder got.
type recorded struct {
	method, path string
	header       http.Header
	body         []byte
}

// recorder answers everything with a status and hands on what it got.
func recorder(t *testing.T, status int) (url string, got <-chan recorded) {
	t.Helper()
	out := make(chan recorded, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		out <- recorded{r.Method, r.URL.Path, r.Header, body}
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, out
}

// workspace starts a Slack emulator.
func workspace(t *testing.T) *emulator.Server {
	t.Helper()
	s := emulator.New(emulator.Config{
		BotToken: "xoxb-test", SigningSecret: "signing-secret-of-the-test", Workspace: emulator.Demo(),
	})
	_, err := s.Start(context.WithoutCancel(t.Context()), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// card waits for the one card of a workspace to be as wanted.
func card(t *testing.T, s *emulator.Server, want func(emulator.Message) bool) emulator.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var found emulator.Message
	require.NoError(t, s.Wait(ctx, func(emulator.Snapshot) bool {
		all := s.Messages("C01BILLING")
		if len(all) > 0 {
			found = all[0]
		}
		return len(all) == 1 && want(found)
	}), "the card reads:\n%s", found.Text)
	return found
}

func hasButtons(m emulator.Message) bool { return len(m.Buttons) == 4 }

func TestACallIsApprovedInSlackMadeOnceAndItsResultDelivered(t *testing.T) {
	t.Parallel()
	database, slack := dbtest.Database(t), workspace(t)
	up, calls := recorder(t, http.StatusOK)
	hook, callbacks := recorder(t, http.StatusNoContent)
	s := serve(t, database, settings{upstream: up, origin: hook, slack: slack.BaseURL()}.file(t))
	slack.SetInteractionsURL(s.base + "/slack/interactions")
	id := s.submit(t, map[string]any{
		"upstream": "billing", "method": "POST", "path": "/refunds", "body": map[string]any{"amount": 42},
		"callback": map[string]any{"url": hook + "/hook"},
	})
	asking := card(t, slack, hasButtons)
	require.Contains(t, asking.Text, `{"amount":42}`)
	require.Empty(t, calls, "nothing is sent before the approval")
	require.Eventually(t, func() bool {
		return bytes.Contains(s.get(t, "/v1/tickets/"+id+"/events").body, []byte("ticket.notified"))
	},
		commandLimit, 10*time.Millisecond, "the card is on record")
	seen, err := slack.Click(t.Context(), "U02BO", asking.Channel, asking.TS, "cs.approve", true)
	require.NoError(t, err)
	require.Empty(t, seen.Warning)

	requireCall(t, arrival(t, calls, "the upstream call"), id)
	requireCallback(t, arrival(t, callbacks, "the callback"), id)
	require.Eventually(t, func() bool {
		return bytes.Contains(s.get(t, "/v1/tickets/"+id).body, []byte(`"state":"delivered"`))
	}, commandLimit, 10*time.Millisecond, "the delivery is recorded")
	card(t, slack, func(m emulator.Message) bool {
		return len(m.Buttons) == 0 && strings.Contains(m.Text, "Executed: POST")
	})

	s.stop()
	require.Equal(t, 0, s.end(t, 10*time.Second), s.stderr)
	require.Empty(t, calls, "the call was made once")
	require.Empty(t, callbacks, "the callback was posted once")
	dbtest.RequireTrail(t, dbtest.Store(t, dbtest.PoolOf(t, database), &dbtest.Outbox{}), id,
		approvals.EventCreated, approvals.EventNotified, approvals.EventDecided, approvals.EventApproved,
		approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

func requireCall(t *testing.T, call recorded, id string) {
	t.Helper()
	require.Equal(t, "POST /refunds", call.method+" "+call.path)
	require.Equal(t, `{"amount":42}`, string(call.body), "the body as it was approved")
	require.Equal(t, id, call.header.Get("Idempotency-Key"))
	require.Equal(t, "Bearer gate-only", call.header.Get("Authorization"))
}

func requireCallback(t *testing.T, callback recorded, id string) {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(callbackSecret)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(callback.body, callback.header), "checked by a library that is not ours")
	require.Contains(t, string(callback.body), `"ticket_id":"`+id+`"`)
	require.Contains(t, string(callback.body), `"type":"ticket.succeeded"`)
}

func TestProcessesOnOneDatabaseShareTheWork(t *testing.T) {
	t.Parallel()
	database := dbtest.Database(t)
	up, calls := recorder(t, http.StatusOK)
	config := settings{upstream: up}.file(t)
	front := serve(t, database, config, "--no-workers")
	id := front.submit(t, map[string]any{"upstream": "billing", "method": "GET", "path": "/x"})
	polled := make(chan answer, 1)
	go func() { polled <- front.get(t, "/v1/tickets/"+id+"?wait=30s") }()
	worker := serve(t, database, config)

	require.Equal(t, id, arrival(t, calls, "the call, made by the other process").header.Get("Idempotency-Key"))
	require.Contains(t, string(arrival(t, polled, "the poll at the front").body), `"state":"succeeded"`)
	for _, s := range []served{front, worker} {
		s.stop()
		require.Equal(t, 0, s.end(t, 15*time.Second), s.stderr)
	}
	require.Empty(t, calls, "the call was made once")
}

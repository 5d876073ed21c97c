package approvals_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func TestSubmitKeepsEverythingWithinItsLimit(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n) }
	texts := map[string]struct {
		limit int
		put   func(*approvals.Submission, string)
	}{
		"caller":         {approvals.MaxName, func(s *approvals.Submission, x string) { s.Caller = x }},
		"on behalf of":   {approvals.MaxName, func(s *approvals.Submission, x string) { s.OnBehalfOf = x }},
		"justification":  {approvals.MaxJustification, func(s *approvals.Submission, x string) { s.Justification = x }},
		"metadata key":   {approvals.MaxMetadataKey, func(s *approvals.Submission, x string) { s.Metadata[x] = "" }},
		"metadata value": {approvals.MaxMetadataValue, func(s *approvals.Submission, x string) { s.Metadata["k"] = x }},
		"upstream":       {approvals.MaxName, func(s *approvals.Submission, x string) { s.Call.Upstream = x }},
		"method":         {approvals.MaxMethod, func(s *approvals.Submission, x string) { s.Call.Method = x }},
		"path":           {approvals.MaxPath, func(s *approvals.Submission, x string) { s.Call.Path = x }},
		"query":          {approvals.MaxQuery, func(s *approvals.Submission, x string) { s.Call.Query = x }},
		"header name":    {approvals.MaxHeaderName, func(s *approvals.Submission, x string) { s.Call.Headers[0].Name = x }},
		"header value":   {approvals.MaxHeaderValue, func(s *approvals.Submission, x string) { s.Call.Headers[0].Value = x }},
		"callback URL":   {approvals.MaxCallbackURL, func(s *approvals.Submission, x string) { s.Callback.URL = x }},
	}
	for name, c := range texts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try := func(x string) error {
				s := submission()
				c.put(&s, x)
				_, err := approvals.Submit(s, planOf(stage("peer", set(1, "team"))), office(), start)
				return err
			}
			require.NoError(t, try(long(c.limit)))
			requireCode(t, approvals.CodeInvalid, try(long(c.limit+1)))
			requireCode(t, approvals.CodeInvalid, try("a\x00"))
			requireCode(t, approvals.CodeInvalid, try("a\xff"))
		})
	}
}

func TestSubmitCountsWhatItTakes(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*approvals.Submission){
		"metadata": func(s *approvals.Submission) {
			for i := range approvals.MaxMetadataKeys {
				s.Metadata[fmt.Sprint(i)] = ""
			}
		},
		"headers": func(s *approvals.Submission) { s.Call.Headers = make([]approvals.Header, approvals.MaxHeaders+1) },
		"body":    func(s *approvals.Submission) { s.Call.Body = make([]byte, approvals.MaxBody+1) },
		"callback events": func(s *approvals.Submission) {
			for range len(approvals.CallbackEvents()) + 1 {
				s.Callback.Events = append(s.Callback.Events, approvals.EventApproved)
			}
		},
		"an unknown callback event": func(s *approvals.Submission) { s.Callback.Events = []approvals.EventType{"ticket.bogus"} },
		"news of deliveries": func(s *approvals.Submission) {
			s.Callback.Events = []approvals.EventType{approvals.EventCallbackFailed}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := submission()
			edit(&s)
			_, err := approvals.Submit(s, planOf(stage("peer", set(1, "team"))), office(), start)
			requireCode(t, approvals.CodeInvalid, err)
		})
	}
}

func TestSubmitOpensATicketThatHoldsTheWholeCall(t *testing.T) {
	t.Parallel()
	s, plan := submission(), planOf(stage("peer", set(1, "team")))
	tr, err := approvals.Submit(s, plan, office(), start)
	require.NoError(t, err)
	tk := tr.Ticket
	require.Equal(t, s.Call, tk.Call)
	require.Equal(t, approvals.Pending, tk.State)
	require.Equal(t, after(24*time.Hour), tk.ExpiresAt)
	require.Equal(t, int64(1), tk.Version)
	require.Equal(t, approvals.CallbackPending, tk.CallbackState)
	created := tr.Events[0].Data.Created
	require.Equal(t, []string{"Accept"}, created.HeaderNames)
	require.Equal(t, s.Call.BodyDigest(), created.BodyDigest)
	require.Equal(t, 17, created.BodyBytes)
	require.Equal(t, approvals.Actor{Kind: approvals.ActorCaller, Name: caller, Via: "api"}, tr.Events[0].Actor)
	require.Equal(t, []approvals.Effect{
		approvals.Notify{TicketID: ticketID, Seq: 1}, approvals.ExpireAt{TicketID: ticketID, At: tk.ExpiresAt},
	}, tr.Effects)

	s.Callback, s.Metadata = nil, nil
	tr, err = approvals.Submit(s, plan, office(), start)
	require.NoError(t, err)
	require.Equal(t, approvals.CallbackNone, tr.Ticket.CallbackState)
}

func TestTicketDoesNotShareItsMetadataWithTheSubmission(t *testing.T) {
	t.Parallel()
	s := submission()
	tr, err := approvals.Submit(s, planOf(stage("peer", set(1, "team"))), office(), start)
	require.NoError(t, err)
	s.Metadata["case"] = "forged"
	require.Equal(t, "991", tr.Ticket.Metadata["case"])
}

package approvals_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func succeeded(t *testing.T) approvals.Ticket {
	t.Helper()
	return must(t)(executing(t, nil).FinishExecution(1, worker, answer(200), after(3*time.Minute)))
}

func TestDeliveryNeverChangesTheOutcome(t *testing.T) {
	t.Parallel()
	tk := succeeded(t)
	a := approvals.DeliveryAttempt{Seq: tk.CallbackSeq, Number: 1, NextAt: after(4 * time.Minute), Error: "refused\x00" + strings.Repeat("x", 2000)}
	tr, err := tk.DeliveryFailed(worker, a, after(3*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.Effect{approvals.Deliver{TicketID: ticketID, Seq: a.Seq, At: a.NextAt}}, tr.Effects)
	require.Equal(t, approvals.CallbackPending, tr.Ticket.CallbackState)
	require.Len(t, tr.Events[0].Data.Delivery.Error, approvals.MaxDetail)
	require.NotContains(t, tr.Events[0].Data.Delivery.Error, "\x00")
	a.NextAt = time.Time{}
	tk = must(t)(tr.Ticket.DeliveryFailed(worker, a, after(4*time.Minute)))
	require.Equal(t, approvals.CallbackExhausted, tk.CallbackState)
	require.Equal(t, approvals.Succeeded, tk.State)
	tk = must(t)(tk.Delivered(worker, a, after(5*time.Minute)))
	require.Equal(t, approvals.CallbackDelivered, tk.CallbackState, "redelivered by hand")
}

func TestWhatWasDeliveredStaysDelivered(t *testing.T) {
	t.Parallel()
	tk := succeeded(t)
	a := approvals.DeliveryAttempt{Seq: tk.CallbackSeq, Number: 1}
	tk = must(t)(tk.Delivered(worker, a, after(4*time.Minute)))
	a.Number = 2
	require.Equal(t, approvals.CallbackDelivered, must(t)(tk.DeliveryFailed(worker, a, after(5*time.Minute))).CallbackState)
	a.NextAt = after(6 * time.Minute)
	require.Equal(t, approvals.CallbackDelivered, must(t)(tk.DeliveryFailed(worker, a, after(5*time.Minute))).CallbackState)
}

func TestRedeliveryIsOwedWhateverCameOfTheDeliveryBefore(t *testing.T) {
	t.Parallel()
	tk := succeeded(t)
	a := approvals.DeliveryAttempt{Seq: tk.CallbackSeq, Number: 1}
	for name, before := range map[string]approvals.Ticket{
		"pending":   tk,
		"delivered": must(t)(tk.Delivered(worker, a, after(4*time.Minute))),
		"exhausted": must(t)(tk.DeliveryFailed(worker, a, after(4*time.Minute))),
	} {
		tr, err := before.RequestRedelivery(person("ana"), a.Seq, 2, after(5*time.Minute))
		require.NoError(t, err, name)
		require.Equal(t, approvals.CallbackPending, tr.Ticket.CallbackState, name)
		require.Equal(t, before.State, tr.Ticket.State, name)
		require.Equal(t, &approvals.DeliveryAttempt{Seq: a.Seq, Number: 2}, tr.Events[0].Data.Delivery, name)
		require.Contains(t, tr.Effects, approvals.Effect(approvals.Deliver{TicketID: ticketID, Seq: a.Seq}), name)
		again := must(t)(tr.Ticket.DeliveryFailed(worker, approvals.DeliveryAttempt{Seq: a.Seq, Number: 2}, after(6*time.Minute)))
		require.Equal(t, approvals.CallbackExhausted, again.CallbackState, "%s: the state follows the last attempt", name)
	}
}

func TestRedeliveryOfAnotherEventLeavesTheStateOfTheLatest(t *testing.T) {
	t.Parallel()
	tk := succeeded(t)
	tk = must(t)(tk.Delivered(worker, approvals.DeliveryAttempt{Seq: tk.CallbackSeq, Number: 1}, after(4*time.Minute)))
	tk = must(t)(tk.RequestRedelivery(person("ana"), 1, 2, after(5*time.Minute)))
	require.Equal(t, approvals.CallbackDelivered, tk.CallbackState)
}

func TestRedeliveryIsBounded(t *testing.T) {
	t.Parallel()
	tk := succeeded(t)
	_, err := tk.RequestRedelivery(person("ana"), tk.CallbackSeq, approvals.MaxAttempts, after(time.Hour))
	require.NoError(t, err)
	for name, ask := range map[string]struct {
		seq    int64
		number int
	}{
		"no such event": {tk.Version + 1, 2}, "no event": {0, 2}, "too many attempts": {tk.CallbackSeq, approvals.MaxAttempts + 1},
	} {
		_, err := tk.RequestRedelivery(person("ana"), ask.seq, ask.number, after(time.Hour))
		require.Equal(t, approvals.CodeConflict, approvals.ErrorCode(err), name)
	}
}

func TestHowMuchOfAResultTravelsIsTheCallersAndTheRulesChoice(t *testing.T) {
	t.Parallel()
	small, large := 10, approvals.CallbackInlineLimit+1
	for name, c := range map[string]struct {
		payload   string
		sensitive bool
		size      int
		omitted   string
	}{
		"small":                       {"", false, small, ""},
		"large":                       {"", false, large, approvals.OmittedTooLarge},
		"full, large":                 {approvals.PayloadFull, false, large, ""},
		"full, too large to be sent":  {approvals.PayloadFull, false, approvals.CallbackLimit, approvals.OmittedTooLarge},
		"thin, small":                 {approvals.PayloadThin, false, small, approvals.OmittedThin},
		"thin, sensitive":             {approvals.PayloadThin, true, small, approvals.OmittedSensitive},
		"sensitive, whoever wants it": {approvals.PayloadFull, true, small, approvals.OmittedSensitive},
	} {
		o := answer(200)
		o.Result.Body = []byte(strings.Repeat("x", c.size))
		tk := executing(t, nil)
		callback := *tk.Callback
		callback.Payload = c.payload
		tk.Callback, tk.Plan.Sensitive = &callback, c.sensitive
		tr, err := tk.FinishExecution(1, worker, o, after(3*time.Minute))
		require.NoError(t, err)
		got := string(payload(t, tr, tr.Result))
		require.Equal(t, c.omitted == "", strings.Contains(got, "xxxx"), name)
		if c.omitted != "" {
			require.Contains(t, got, `"result_omitted": "`+c.omitted+`"`, name)
		}
	}
}

func TestDeliveryOfAnEarlierEventSaysNothingOfTheLatest(t *testing.T) {
	t.Parallel()
	tk := succeeded(t)
	tk = must(t)(tk.Delivered(worker, approvals.DeliveryAttempt{Seq: 1}, after(4*time.Minute)))
	require.Equal(t, approvals.CallbackPending, tk.CallbackState)
}

func TestResolutionIsDeliveredAnew(t *testing.T) {
	t.Parallel()
	doubt := must(t)(executing(t, nil).Abandon(1, after(3*time.Minute)))
	doubt = must(t)(doubt.Delivered(worker, approvals.DeliveryAttempt{Seq: doubt.CallbackSeq}, after(4*time.Minute)))
	require.Equal(t, approvals.CallbackDelivered, doubt.CallbackState)
	tr, err := doubt.Resolve(person("ana"), true, "seen", after(5*time.Minute))
	require.NoError(t, err)
	require.Equal(t, approvals.CallbackPending, tr.Ticket.CallbackState)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.Deliver{TicketID: ticketID, Seq: tr.Ticket.Version}))
}

func TestDeliveryOfWhatDoesNotExistIsAConflict(t *testing.T) {
	t.Parallel()
	tk := succeeded(t)
	for _, seq := range []int64{-1, 0, tk.Version + 1} {
		_, err := tk.Delivered(worker, approvals.DeliveryAttempt{Seq: seq}, after(4*time.Minute))
		requireCode(t, approvals.CodeConflict, err)
	}
	s := submission()
	s.Callback = nil
	tr, err := approvals.Submit(s, planOf(stage("peer", set(1, "team"))), office(), start)
	require.NoError(t, err)
	_, err = tr.Ticket.Delivered(worker, approvals.DeliveryAttempt{Seq: 1}, after(time.Minute))
	requireCode(t, approvals.CodeConflict, err)
}

func TestCallerHearsOfTheEndAndOfWhatItAskedFor(t *testing.T) {
	t.Parallel()
	s := submission()
	s.Callback.Events = []approvals.EventType{approvals.EventCreated, approvals.EventApproved}
	tr, err := approvals.Submit(s, planOf(stage("peer", set(1, "team"))), office(), start)
	require.NoError(t, err)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.Deliver{TicketID: ticketID, Seq: 1}))
	tr, err = vote(tr.Ticket, "ana", approvals.Approve, office(), after(time.Minute))
	require.NoError(t, err)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.Deliver{TicketID: ticketID, Seq: 3}))
	require.NotContains(t, tr.Effects, approvals.Effect(approvals.Deliver{TicketID: ticketID, Seq: 2}))
}

func payload(t *testing.T, tr approvals.Transition, r *approvals.Result) []byte {
	t.Helper()
	b, err := approvals.CallbackPayload(tr.Ticket, tr.Events[len(tr.Events)-1], r, "https://countersign.example.com/")
	require.NoError(t, err)
	require.True(t, utf8.Valid(b))
	var out bytes.Buffer
	require.NoError(t, json.Indent(&out, b, "", "  "))
	out.WriteByte('\n')
	return out.Bytes()
}

func TestCallbackPayloadsAreGolden(t *testing.T) {
	t.Parallel()
	tk := executing(t, nil)
	finish := func(body string) approvals.Transition {
		o := answer(200)
		o.Result.Body = []byte(body)
		tr, err := tk.FinishExecution(1, worker, o, after(3*time.Minute))
		require.NoError(t, err)
		return tr
	}
	tr := finish(`{"deleted":true}`)
	golden(t, "callback-json.golden", payload(t, tr, tr.Result))
	tr = finish("gone & <forgotten>\n")
	golden(t, "callback-text.golden", payload(t, tr, tr.Result))
	tr = finish("\xff\xfe\x00")
	golden(t, "callback-bytes.golden", payload(t, tr, tr.Result))
	tr = finish("")
	golden(t, "callback-empty.golden", payload(t, tr, tr.Result))
	tr = finish(strings.Repeat("x", approvals.CallbackInlineLimit+1))
	golden(t, "callback-too-large.golden", payload(t, tr, tr.Result))
	tr, err := tk.FinishExecution(1, worker, outcome(approvals.Unknown), after(3*time.Minute))
	require.NoError(t, err)
	golden(t, "callback-unknown.golden", payload(t, tr, nil))
	tr, err = submit(t, planOf(stage("peer", set(1, "team"))), office()).
		Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?"}, office(), after(time.Minute))
	require.NoError(t, err)
	tr.Ticket.Metadata = nil
	golden(t, "callback-question.golden", payload(t, tr, nil))
}

func TestResultUpToTheLimitTravelsInside(t *testing.T) {
	t.Parallel()
	for size, inside := range map[int]bool{approvals.CallbackInlineLimit: true, approvals.CallbackInlineLimit + 1: false} {
		o := answer(200)
		o.Result.Body = []byte(strings.Repeat("x", size))
		tr, err := executing(t, nil).FinishExecution(1, worker, o, after(3*time.Minute))
		require.NoError(t, err)
		got := string(payload(t, tr, tr.Result))
		require.Equal(t, inside, strings.Contains(got, "xxxx"))
		require.Equal(t, !inside, strings.Contains(got, `"result_omitted": "too_large"`))
	}
}

func TestBodyThatIsBrokenJSONIsShownAsBytes(t *testing.T) {
	t.Parallel()
	got := approvals.Result{Body: []byte("\"\xff\"")}.Render()
	require.Nil(t, got.Body)
	require.Equal(t, "Iv8i", got.BodyBase64)
	require.Equal(t, []approvals.Header{}, got.Headers)
}

func TestLinksLieBelowThePublicURL(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"https://c.example.com", "https://c.example.com/"} {
		require.Equal(t, map[string]string{
			"self":   "https://c.example.com/v1/tickets/tkt_1",
			"result": "https://c.example.com/v1/tickets/tkt_1/result",
			"events": "https://c.example.com/v1/tickets/tkt_1/events",
			"cancel": "https://c.example.com/v1/tickets/tkt_1/cancel",
		}, approvals.Links("tkt_1", base))
	}
}

func TestNotifiedRecordsTheCardAndRendersItAgain(t *testing.T) {
	t.Parallel()
	card := approvals.Card{Stage: 0, Channel: "C1", TS: "1.2"}
	tr, err := submit(t, planOf(stage("peer", set(1, "team"))), office()).Notified(worker, card, after(time.Minute))
	require.NoError(t, err)
	require.Equal(t, &card, tr.Events[0].Data.Card)
	require.Equal(t, []approvals.Effect{approvals.UpdateCard{TicketID: ticketID}}, tr.Effects)
}

func TestACardIsRenderedAgainOnlyWhenTheTicketMovedOnMeanwhile(t *testing.T) {
	t.Parallel()
	x, now := submit(t, planOf(stage("peer", set(1, "team"))), office()), after(time.Minute)
	fresh, err := x.Notified(worker, approvals.Card{Channel: "C1", TS: "1.2", Version: x.Version}, now)
	require.NoError(t, err)
	require.Empty(t, fresh.Effects, "the card shows the ticket as it is")
	stale, err := x.Notified(worker, approvals.Card{Channel: "C1", TS: "1.2", Version: x.Version - 1}, now)
	require.NoError(t, err)
	require.Equal(t, []approvals.Effect{approvals.UpdateCard{TicketID: x.ID}}, stale.Effects)
}

func TestAnAnswerThatWouldNotFitNeverKeepsTheCallerFromBeingTold(t *testing.T) {
	t.Parallel()
	hostile := answer(200)
	hostile.Result.Body = bytes.Repeat([]byte("<"), approvals.CallbackInlineLimit)
	for range 4 {
		hostile.Result.Headers = append(hostile.Result.Headers, approvals.Header{Name: "Link", Value: strings.Repeat("<", 8000)})
	}
	tr, err := executing(t, nil).FinishExecution(1, worker, hostile, after(3*time.Minute))
	require.NoError(t, err)
	got, err := approvals.CallbackPayload(tr.Ticket, tr.Events[0], tr.Result, "https://countersign.example.com")
	require.NoError(t, err)
	require.LessOrEqual(t, len(got), approvals.CallbackLimit)
	require.Contains(t, string(got), `"state":"succeeded"`)
	require.Contains(t, string(got), `"result":null,"result_omitted":"too_large"`)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/browsertest"
)

// demo is a running countersign dev, seen through a browser.
type demo struct {
	t  *testing.T
	at map[string]string
}

// ask submits a call for approval and returns its ticket. The justification tells its card
// from the others.
func (d demo) ask(path, why string, body any) string {
	d.t.Helper()
	status, out := d.post("/v1/tickets", d.at["api_key"], map[string]any{
		"upstream": "billing", "method": http.MethodPost, "path": path, "justification": why, "body": body,
	})
	require.Equal(d.t, http.StatusAccepted, status, "%v", out)
	return out["id"].(string)
}

func (d demo) post(path, key string, body any) (int, map[string]any) {
	d.t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(d.t, err)
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.at["api"]+path, bytes.NewReader(raw))
	require.NoError(d.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", d.t.Name()+path)
	return d.do(req, key)
}

func (d demo) ticket(id, query string) map[string]any {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.at["api"]+"/v1/tickets/"+id+query, nil)
	require.NoError(d.t, err)
	status, out := d.do(req, d.at["api_key"])
	require.Equal(d.t, http.StatusOK, status)
	return out
}

func (d demo) do(req *http.Request, key string) (int, map[string]any) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(req.Context(), commandLimit)
	defer cancel()
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req.WithContext(ctx))
	require.NoError(d.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)
	var out map[string]any
	require.NoError(d.t, json.Unmarshal(raw, &out), "%s", raw)
	return resp.StatusCode, out
}

// fingerprint is what people tell a request by, on every message about it.
func (d demo) fingerprint(id string) string { return d.ticket(id, "")["fingerprint"].(string) }

// look opens the local Slack as somebody, in a channel.
func (d demo) look(user, channel string, size browsertest.Size) *browsertest.Tab {
	d.t.Helper()
	return browsertest.Open(d.t, d.at["slack"]+"/#"+user+"/"+channel, size)
}

// message is the message that holds a text.
func message(text string) string {
	return fmt.Sprintf(`//main//article[contains(., %q)]`, text)
}

// messagesTab is there once the app has written to somebody.
const messagesTab = "#tabs button.tab:last-child:not(:first-child)"

const (
	modal  = `//dialog[@id="modal"]`
	dialog = `//dialog[@id="confirm"]`
)

// What an approver sees and does, in a real browser, on the whole product as `make dev`
// starts it.
func TestBrowser(t *testing.T) { //nolint:tparallel // one person has one Slack: a modal of theirs is in front in each of its windows
	t.Parallel()
	dev := launch(t, nil, "dev", "--json", "--port", "0", "--dir", openDir(t))
	at := announced(t, dev)
	for _, test := range []struct { //nolint:paralleltest // one after the other, as above
		name string
		do   func(demo)
	}{
		{"an approver denies with a reason and sees the card close", browserDenies},
		{"an approver confirms what will be sent and sees the result", browserApproves},
		{"a long call is read to its end before it can be approved", browserReviews},
		{"a call of high risk is approved by typing its fingerprint", browserCode},
		{"a question is answered from a direct message", browserAsks},
		{"the home tab and the command list what waits for somebody", browserHome},
		{"a call made to deceive shows what it is and mentions nobody", browserSpoof},
	} {
		t.Run(test.name, func(t *testing.T) { test.do(demo{t, at}) })
	}
}

func browserDenies(d demo) {
	id := d.ask("/refunds", "refund 4711 of the angry customer", map[string]any{"charge": "ch_1", "amount": 4200})
	tab := d.look("U02BO", "C01BILLING", browsertest.Size{})
	card := message(d.fingerprint(id))
	shown := tab.Await(card, "Approval needed", "POST", "/refunds", `"amount":4200`, "Nothing has been sent.", "fingerprint")
	require.Contains(d.t, shown, "Approving sends it once, now.")
	tab.Screenshot("card-pending")
	tab.Press(card, "Deny…")
	tab.Await(modal, "Deny request", "/refunds")
	tab.Type("#modal textarea", "no")
	tab.Press(modal, "Deny")
	tab.Await(modal, "at least 5")
	tab.Screenshot("modal-deny-too-short")
	tab.Type("#modal textarea", "t without a second receipt")
	tab.Screenshot("modal-deny")
	tab.Press(modal, "Deny")
	tab.AwaitNone("#modal")
	tab.Await(card, "Denied", "Nothing was sent.", "not without a second receipt")
	tab.Screenshot("card-denied")
	got := d.ticket(id, "")
	require.Equal(d.t, "denied", got["state"])
	decision := got["decisions"].([]any)[0].(map[string]any)
	require.Equal(d.t, "not without a second receipt", decision["comment"])
}

func browserApproves(d demo) {
	id := d.ask("/refunds", "refund 4712 was charged twice", map[string]any{"charge": "ch_2", "amount": 100})
	tab := d.look("U02CHEN", "C01BILLING", browsertest.Size{Dark: true})
	card := message(d.fingerprint(id))
	tab.Await(card, "Approval needed")
	tab.Press(card, "Approve")
	asked := tab.Await(dialog, "Approve this request?", "POST", "fingerprint", "It runs at once")
	tab.Screenshot("dialog-approve-dark")
	require.Contains(d.t, asked, d.fingerprint(id), "the dialog names the request that the API has")
	tab.Press(dialog, "Approve")
	tab.Await(card, "Executed", "Approved by", "answered 200")
	tab.Screenshot("card-executed-dark")
	require.Equal(d.t, "succeeded", d.ticket(id, "?wait=20s")["state"])
}

func browserReviews(d demo) {
	id := d.ask("/refunds", "refund 4713 of a whole month", map[string]any{"charges": strings.Repeat("ch_0123456789, ", 1500), "last": "the end of it all"})
	tab := d.look("U02BO", "C01BILLING", browsertest.Size{})
	card := message(d.fingerprint(id))
	shown := tab.Await(card, "Approval needed", "bytes shown")
	require.NotContains(d.t, shown, "the end of it all")
	tab.Press(card, "Review…")
	tab.Await(modal, "Page 1 of")
	tab.Screenshot("review-first-page")
	for page := 2; ; page++ {
		tab.Press(modal, "Next page →")
		if text := tab.Await(modal, fmt.Sprintf("Page %d of", page)); strings.Contains(text, "the end of it all") {
			break
		}
		require.Less(d.t, page, 20, "pages")
	}
	tab.Screenshot("review-last-page")
	tab.Press(modal, "Approve")
	tab.Await(card, "Executed")
	require.Equal(d.t, "succeeded", d.ticket(id, "?wait=20s")["state"])
	require.Contains(d.t, fmt.Sprint(d.events(id)), "ticket.viewed")
}

func browserCode(d demo) {
	id := d.ask("/transfers", "invoice 12 is due", map[string]any{"to": "DE02 1203 0000 0000 2020 51", "amount": 4200})
	tab := d.look("U02CHEN", "home", browsertest.Size{})
	tab.Reach(messagesTab, messagesTab+".here") // there once the app has written to her
	fingerprint := d.fingerprint(id)
	card := message(fingerprint)
	tab.Await(card, "Approval needed", "/transfers", "last four digits")
	tab.Press(card, "Review…")
	tab.Await(modal, "DE02 1203", "last four")
	tab.Screenshot("review-code")
	tab.Type(`#modal input[type="text"]`, "0000")
	tab.Press(modal, "Approve")
	tab.Await("#modal .error", "four")
	tab.Clear(`#modal input[type="text"]`)
	tab.Type(`#modal input[type="text"]`, fingerprint[len(fingerprint)-4:])
	tab.Press(modal, "Approve")
	tab.AwaitNone("#modal")
	tab.Await(card, "Executed")
	require.Equal(d.t, "succeeded", d.ticket(id, "?wait=20s")["state"])
}

func (d demo) events(id string) map[string]any { return d.ticket(id, "/events") }

func browserAsks(d demo) {
	id := d.ask("/refunds", "refund 4714 for reasons", map[string]any{"charge": "ch_4"})
	tab := d.look("U02BO", "C01BILLING", browsertest.Size{})
	card := message(d.fingerprint(id))
	tab.Await(card, "Approval needed")
	tab.Press(card, "Ask for details…")
	tab.Await(modal, "Ask for details")
	tab.Type("#modal textarea", "which case is this about?")
	tab.Press(modal, "Send question")
	tab.Await(card, "Question open", "which case is this about?")
	owner := d.look("U02ANA", "home", browsertest.Size{})
	owner.Reach(messagesTab, messagesTab+".here")
	note := message("which case is this about?")
	owner.Await(note, "asks")
	owner.Screenshot("dm-question")
	owner.Press(note, "Answer…")
	owner.Type("#modal textarea", "case 991, see the mail of Monday")
	owner.Press(modal, "Send answer")
	tab.Await(card, "Approval needed", "case 991, see the mail of Monday")
	tab.Screenshot("card-answered")
}

func browserHome(d demo) {
	d.ask("/refunds", "refund 4715 in the list", map[string]any{"charge": "ch_5"})
	tab := d.look("U02CHEN", "home", browsertest.Size{Width: 1100, Height: 900})
	tab.Await("#log", "Waiting for you", "demo-bot")
	tab.Screenshot("home")
	tab.Go(d.at["slack"] + "/#U02CHEN/C01BILLING")
	tab.Await("#log", "refund 4715")
	tab.Type("#composer textarea", "/approvals\r")
	tab.Await(message("Only visible to you"), "/refunds")
	tab.Screenshot("command")
	phone := d.look("U02CHEN", "C01BILLING", browsertest.Size{Width: 390, Height: 844, Dark: true})
	phone.Await("#log", "refund 4715")
	phone.Screenshot("phone-dark")
}

func browserSpoof(d demo) {
	d.ask("/refunds", "refund 4716 <!channel> <https://evil.example|click> ```*approved*``` \u202egnp.exe", map[string]any{"note": "<!here> \u200b@channel"})
	tab := d.look("U02BO", "C01BILLING", browsertest.Size{})
	shown := tab.Await(message("refund 4716"), "<!channel>", "<https://evil.example|click>", "```*approved*```", `\u202e`)
	require.NotContains(d.t, shown, "\u202e")
	require.NotContains(d.t, shown, "\u200b")
	tab.Screenshot("card-spoof")
}

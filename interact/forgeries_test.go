package interact_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/interact"
	"countersign/slack"
)

// forgeries is how many requests the campaign makes up: a few thousand, or as FORGERIES says.
func forgeries(t *testing.T) int {
	t.Helper()
	n := 3000
	if text := os.Getenv("FORGERIES"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err, "FORGERIES")
	}
	return n
}

// forger makes up requests from genuine ones.
type forger struct {
	o       *office
	rnd     *rand.Rand
	genuine []*genuine
	others  []card
}

// genuine is a request that was made, and has had its one effect.
type genuine struct {
	body   string
	header http.Header
}

// forged is a request that was made up, and what kind.
type forged struct {
	kind   string
	body   string
	header http.Header
}

func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

// unsigned are changes that no signature covers.
func (f *forger) unsigned(g *genuine) forged {
	body, header := []byte(g.body), g.header.Clone()
	switch kind := f.rnd.IntN(6); kind {
	case 0:
		return forged{"replayed as it was", g.body, header}
	case 1:
		body[f.rnd.IntN(len(body))] ^= byte(1 << f.rnd.IntN(8))
		return forged{"a bit of the body flipped", string(body), header}
	case 2:
		name := pick(f.rnd, []string{"X-Slack-Signature", "X-Slack-Request-Timestamp"})
		value := []byte(header.Get(name))
		value[f.rnd.IntN(len(value))] ^= byte(1 << f.rnd.IntN(7))
		header.Set(name, string(value))
		return forged{"a bit of a header flipped", g.body, header}
	case 3:
		cut := f.rnd.IntN(len(body))
		return forged{"cut off", string(body[:cut]), header}
	case 4:
		other := pick(f.rnd, f.genuine)
		header.Set("X-Slack-Signature", other.header.Get("X-Slack-Signature"))
		header.Set("X-Slack-Request-Timestamp", other.header.Get("X-Slack-Request-Timestamp"))
		return forged{"the headers of another", g.body + "&x=" + strconv.Itoa(f.rnd.Int()), header}
	default:
		header.Del(pick(f.rnd, []string{"X-Slack-Signature", "X-Slack-Request-Timestamp"}))
		return forged{"a header left out", g.body, header}
	}
}

// signed are changes of somebody who can have Slack sign what they like: whatever they say,
// they are not an approver who has not decided yet, on the card of the ticket.
func (f *forger) signed(t *testing.T) forged {
	t.Helper()
	o, rnd := f.o, f.rnd
	c := pick(rnd, f.others)
	user := pick(rnd, []string{ana, bo, chen, dev, erin, "U02GUEST", "U02LEFT", "U0NOBODY"})
	action := pick(rnd, slices.Collect(maps.Keys(actionsOfOurs)))
	kind, change := "", func(map[string]any) {}
	switch rnd.IntN(8) {
	case 0:
		kind, change = "a handle made up", set(fmt.Sprintf("h_%016x%016x", rnd.Uint64(), rnd.Uint64()), "actions", "value")
	case 1:
		kind, change = "a review made up", set(fmt.Sprintf("v_%016x%016x", rnd.Uint64(), rnd.Uint64()), "actions", "value")
	case 2:
		kind, change = "another app", set("A0OTHER", "api_app_id")
	case 3:
		kind, change = "another workspace", set("T0PARTNER", "team", "id")
	case 4:
		kind, change = "the home of another workspace", set("T0PARTNER", "user", "team_id")
	case 5:
		kind, change = "another conversation", func(p map[string]any) {
			set(securityRoom, "channel", "id")(p)
			set(securityRoom, "container", "channel_id")(p)
		}
	case 6:
		kind, change = "seen by one person", set(true, "container", "is_ephemeral")
	case 7:
		other := pick(rnd, f.others)
		if other.handle == c.handle {
			kind, change = "a button made up", func(map[string]any) { action = "cs.approve.everything" }
			break
		}
		kind, change = "the handle of another card", set(other.handle, "actions", "value")
	}
	body := o.payload(t, ana, c, slack.ActionDeny, func(p map[string]any) {
		set(user, "user", "id")(p)
		change(p)
		set(action, "actions", "action_id")(p)
		p["trigger_id"] = strconv.Itoa(rnd.Int())
	})
	return forged{kind, body, o.emu.Sign([]byte(body), o.clock.now())}
}

var actionsOfOurs = map[string]bool{
	slack.ActionApprove: true, slack.ActionDeny: true, slack.ActionAsk: true, slack.ActionBreakGlass: true, slack.ActionView: true,
	slack.ActionNext: true, slack.ActionPrev: true, slack.ActionAnswer: true,
}

// Thousands of requests that are replayed, changed or made up have no effect but refusals on
// record, whether or not they are signed.
func TestForgeries(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	f := &forger{o: o, rnd: rand.New(rand.NewPCG(4, 2))} //nolint:gosec // the same campaign every time
	done := o.ask(t, twoApprovals)
	for _, user := range []string{bo, chen} {
		o.clickWell(t, user, done, slack.ActionApprove)
		last := o.newest(t)
		f.genuine = append(f.genuine, &genuine{body: last.Body, header: last.Header})
	}
	for range 4 {
		f.others = append(f.others, o.ask(t, twoApprovals))
	}
	o.outbox.Take()
	count := f.campaign(t, forgeries(t))
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%7d × %s", count[kind], kind)
	}
	o.trail(t, done.ticket, approvals.EventDecided, approvals.EventDecided, approvals.EventApproved)
	for _, c := range f.others {
		ticket := o.ticket(t, c.ticket)
		require.Equal(t, approvals.Pending, ticket.State)
		require.Empty(t, ticket.Decisions)
		require.Empty(t, ticket.Viewers)
		for _, e := range o.events(t, c.ticket)[1:] {
			require.Equal(t, approvals.EventRefused, e.Type, "all that there is besides")
		}
	}
	require.Empty(t, o.outbox.Take(), "jobs")
}

// campaign makes n requests at the desk, a few at a time, and counts them by kind and answer.
func (f *forger) campaign(t *testing.T, n int) map[string]int {
	t.Helper()
	work := make(chan forged, 16)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[string]int{}
	for range 4 {
		wg.Go(func() {
			for x := range work {
				status := f.o.handle(t, x)
				mu.Lock()
				count[fmt.Sprintf("%s: %d", x.kind, status)]++
				mu.Unlock()
			}
		})
	}
	for i := range n {
		if i%3 == 0 {
			work <- f.signed(t)
			continue
		}
		work <- f.unsigned(pick(f.rnd, f.genuine))
	}
	close(work)
	wg.Wait()
	return count
}

// handle puts a request to the desk, without a wire in between.
func (o *office) handle(t *testing.T, x forged) (status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, interact.PathInteractions, strings.NewReader(x.body))
	for _, name := range []string{"Content-Type", "X-Slack-Signature", "X-Slack-Request-Timestamp"} {
		if values := x.header.Values(name); len(values) > 0 {
			req.Header[name] = values
		}
	}
	answer := httptest.NewRecorder()
	o.desk.ServeHTTP(answer, req)
	return answer.Code
}

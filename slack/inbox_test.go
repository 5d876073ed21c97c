package slack_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

const permalink = "https://acme.slack.com/archives/C01BILLING/p1795447197000001"

// personal is the handle of what one person sees alone.
const personal = "h_00000000000000000000000000000001"

func item(v slack.View, note string) slack.HomeItem {
	return slack.HomeItem{View: v, Handle: personal, Permalink: permalink, Note: note}
}

func times(n int, i slack.HomeItem) (out []slack.HomeItem) {
	for range n {
		out = append(out, i)
	}
	return out
}

func TestEveryHomeTabIsAsReviewed(t *testing.T) {
	t.Parallel()
	all := states(t)
	noButton := slack.HomeItem{View: all["succeeded"], Note: "you asked for it <!here>"}
	for name, h := range map[string]slack.HomeTab{
		"empty": {},
		"full": {
			Waiting: []slack.HomeItem{item(all["pending"], ""), item(all["stage_2_of_2"], "you may break the glass")},
			Asked:   []slack.HomeItem{item(all["needs_info"], "")}, Requests: []slack.HomeItem{noButton, item(all["denied"], "")},
			More: slack.HomeMore{Waiting: 1003, Requests: 1},
		},
		"stranger": {Notice: "This Slack account is not tied to anybody here yet.\n<!channel>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h.Now = start.Add(20 * time.Minute)
			view := slack.Home(h)
			require.NoError(t, slack.LintHome(view))
			golden(t, "home_"+name, view)
		})
	}
}

func TestAHomeTabNeverGrowsBeyondWhatSlackTakes(t *testing.T) {
	t.Parallel()
	many := times(500, item(pendingView(t, withBody(strings.Repeat("\u202e", 40_000))), strings.Repeat("&", 9000)))
	view := slack.Home(slack.HomeTab{Waiting: many, Asked: many, Requests: many, More: slack.HomeMore{Waiting: -5, Asked: 7}, Notice: "x", Now: start})
	require.NoError(t, slack.LintHome(view))
	require.LessOrEqual(t, len(view.Blocks.BlockSet), 100)
	text := textsOf(t, view.Blocks.BlockSet).all()
	for _, want := range []string{"Waiting for you (500)", "You asked (507)", "Your requests (500)", "…and 480 more.", "…and 497 more.", "…and 490 more."} {
		require.Contains(t, text, want)
	}
}

func TestListsNeverInterpretWhatCallersWrote(t *testing.T) {
	t.Parallel()
	lists := func(text string) string {
		v := everywhere(t, text)[0]
		home := slack.Home(slack.HomeTab{Waiting: []slack.HomeItem{item(v, "")}, Now: start})
		require.NoError(t, slack.LintHome(home))
		listing := slack.Listing("Waiting for you", []slack.HomeItem{item(v, "")}, start)
		require.NoError(t, slack.Lint(listing))
		shown := slices.Concat(textsOf(t, home.Blocks.BlockSet).mrkdwn, textsOf(t, listing.Blocks).mrkdwn)
		for _, r := range textsOf(t, listing.Blocks).all() + textsOf(t, home.Blocks.BlockSet).all() {
			require.False(t, invisible(r), "%q shows %U", text, r)
		}
		return strings.ReplaceAll(strings.Join(shown, "\n"), v.Fingerprint, "F")
	}
	for _, text := range spoofs(t) {
		require.Equal(t, lists("harmless"), lists(text), "%q", text)
	}
}

func TestEveryListingIsAsReviewed(t *testing.T) {
	t.Parallel()
	_, client := workspace(t)
	all := states(t)
	for name, m := range map[string]slack.Message{
		"some": slack.Listing("Waiting for you", []slack.HomeItem{item(all["pending"], ""), {View: all["succeeded"]}}, start),
		"none": slack.Listing("Your requests", nil, start), "help": slack.Help(), "saying": slack.Saying("There is no such ticket. <!channel>\n"),
	} {
		require.NoError(t, slack.Lint(m), name)
		golden(t, "listing_"+name, map[string]any{"text": m.Text, "blocks": m.Blocks})
		_, err := client.Post(t.Context(), channel, m, slack.PostOptions{})
		require.NoError(t, err, name)
	}
	long := slack.Listing(strings.Repeat("&", 9000), times(400, item(pendingView(t, nil), "")), start)
	require.NoError(t, slack.Lint(long))
	require.LessOrEqual(t, len(long.Blocks), 50)
	require.Contains(t, textsOf(t, long.Blocks).all(), "…and 385 more.")
}

func TestALinkToACardIsOnlyMadeOfAnAddressThatCanBeOne(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]bool{
		permalink: true, "http://127.0.0.1:8099/archives/C1/p1": true, "": false, "javascript:alert(1)": false, "https://x.example/|a": false,
		"https://x.example/><!channel>": false, "https://x.example/ y": false, "https://x/" + strings.Repeat("a", 600): false, "/archives": false,
	} {
		v := states(t)["denied"]
		v.Permalink = link
		text := strings.Join(textsOf(t, slack.OutcomeNotice(v).Blocks).mrkdwn, "\n")
		require.Equal(t, want, strings.Contains(text, "|Open in its channel>"), link)
		require.NotContains(t, text, "<!channel>")
	}
}

func TestEveryMessageToARequesterIsAsReviewed(t *testing.T) {
	t.Parallel()
	_, client := workspace(t)
	all := states(t)
	messages := map[string]slack.Message{}
	for _, name := range []string{"succeeded_delivered", "failed", "denied", "expired", "cancelled", "superseded", "outcome_unknown", "denied_by_policy", "glass_broken_succeeded"} {
		v := all[name]
		v.Permalink = permalink
		messages["outcome_"+name] = slack.OutcomeNotice(v)
	}
	open := all["needs_info"]
	answered := all["question_answered"].Answered[0]
	messages["answer_wanted"] = slack.AnswerRequest(open, *open.Ticket.Question)
	messages["answer_given"] = slack.AnswerRequest(all["question_answered"], answered)
	messages["answer_over"] = slack.AnswerRequest(all["denied"], *open.Ticket.Question)
	for name, m := range messages {
		require.NoError(t, slack.Lint(m), name)
		require.NotContains(t, pretty(t, m), "s3cr3t-canary", name)
		golden(t, "requester_"+name, map[string]any{"text": m.Text, "blocks": m.Blocks})
		_, err := client.Post(t.Context(), channel, m, slack.PostOptions{})
		require.NoError(t, err, name)
	}
}

func TestOnlyTheQuestionThatIsOpenCanBeAnswered(t *testing.T) {
	t.Parallel()
	open := states(t)["question_open_again"]
	now, before := *open.Ticket.Question, open.Answered[0]
	before.Answer = ""
	require.Equal(t, []string{slack.ActionAnswer}, buttons(slack.AnswerRequest(open, now)))
	require.Empty(t, buttons(slack.AnswerRequest(open, before)), "an earlier question")
	require.Empty(t, buttons(slack.AnswerRequest(states(t)["denied"], now)), "a ticket that is over")
	open.Handle = ""
	require.Empty(t, buttons(slack.AnswerRequest(open, now)), "no handle")
}

func TestTheAnswerModalShowsTheQuestionAndTakesWhatSlackTakes(t *testing.T) {
	t.Parallel()
	m := slack.AnswerModal(states(t)["needs_info"])
	require.NoError(t, slack.LintModal(m))
	require.Contains(t, textsOf(t, m.Blocks.BlockSet).literals, "Which *ticket* is this for?")
	input := m.Blocks.BlockSet[len(m.Blocks.BlockSet)-1].(*slackgo.InputBlock)
	require.Equal(t, slack.MaxAnswer, input.Element.(*slackgo.PlainTextInputBlockElement).MaxLength)
	require.LessOrEqual(t, slack.MaxAnswer, approvals.MaxAnswer)
	require.NoError(t, slack.LintModal(slack.AnswerModal(states(t)["denied"])), "no question is open any more")
}

func TestLintHomeReportsWhatSlackWouldRefuse(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*slack.HomeView){
		"type":     func(v *slack.HomeView) { v.Type = slackgo.VTModal },
		"no block": func(v *slack.HomeView) { v.Blocks.BlockSet = nil },
		"metadata": func(v *slack.HomeView) { v.PrivateMetadata = strings.Repeat("x", 3001) },
		"an input": func(v *slack.HomeView) {
			v.Blocks.BlockSet = append(v.Blocks.BlockSet, slackgo.NewInputBlock("i", plainObject(1), nil, slackgo.NewPlainTextInputBlockElement(nil, "v")))
		},
		"an accessory": func(v *slack.HomeView) {
			v.Blocks.BlockSet = append(v.Blocks.BlockSet, slackgo.NewSectionBlock(plainObject(1), nil,
				slackgo.NewAccessory(slackgo.NewImageBlockElement("https://x.example/", "x")), slackgo.SectionBlockOptionBlockID("s")))
		},
		"a button": func(v *slack.HomeView) {
			v.Blocks.BlockSet = append(v.Blocks.BlockSet, slackgo.NewSectionBlock(plainObject(1), nil,
				slackgo.NewAccessory(slackgo.NewButtonBlockElement("", "v", plainObject(1))), slackgo.SectionBlockOptionBlockID("s")))
		},
		"too large": func(v *slack.HomeView) {
			for i := range 90 {
				v.Blocks.BlockSet = append(v.Blocks.BlockSet, slackgo.NewRichTextBlock(strings.Repeat("r", i+20),
					slackgo.NewRichTextSection(slackgo.NewRichTextSectionTextElement(strings.Repeat("x", 3000), nil))))
			}
		},
	} {
		view := slack.Home(slack.HomeTab{Now: start})
		edit(&view)
		require.Error(t, slack.LintHome(view), name)
	}
}

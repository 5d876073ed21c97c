package slack_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

// spoofs is the corpus of texts that try to be more than text, or other than they look.
func spoofs(t *testing.T) (out []string) {
	t.Helper()
	raw, err := os.ReadFile("testdata/spoofs.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		text, err := strconv.Unquote(line)
		require.NoError(t, err, line)
		out = append(out, text)
	}
	require.GreaterOrEqual(t, len(out), 200)
	return out
}

func TestNoSpoofIsInterpretedAnywhere(t *testing.T) {
	t.Parallel()
	harmless := mrkdwnOf(t, everywhere(t, "harmless"))
	for _, text := range spoofs(t) {
		require.Equal(t, harmless, mrkdwnOf(t, everywhere(t, text)), "%q", text)
	}
}

func TestNoSpoofIsInterpretedInAFullView(t *testing.T) {
	t.Parallel()
	counts := regexp.MustCompile(`^(Page |body |no body)`)
	ours := func(text string) (out []string) {
		for _, v := range everywhere(t, text) {
			blocks := slack.NewReview(v).Modal(reviewHandle, 1, slack.ReviewApprove).Blocks.BlockSet
			for _, shown := range textsOf(t, blocks).mrkdwn {
				if !counts.MatchString(shown) {
					out = append(out, shown)
					continue
				}
				require.Regexp(t, `^[-–F·a-zA-Z0-9,:\x60\\… ]*$`, shown)
			}
		}
		return out
	}
	for _, text := range spoofs(t) {
		require.Equal(t, ours("harmless"), ours(text), "%q", text)
	}
}

func TestNoSpoofHidesAnythingOrLooksLikeAnother(t *testing.T) {
	t.Parallel()
	cards, reviews := map[string]string{}, map[string]string{}
	for _, text := range spoofs(t) {
		v := pendingView(t, withBody(text))
		v.Fingerprint = "" // the rest has to do it alone
		card, page := textsOf(t, slack.Card(v).Blocks).all(), textsOf(t, slack.NewReview(v).Modal(reviewHandle, 1, slack.ReviewApprove).Blocks.BlockSet).all()
		for _, r := range card + page {
			require.False(t, invisible(r), "%q shows %U", text, r)
		}
		require.True(t, utf8.ValidString(card+page))
		if other, twice := cards[card]; twice {
			require.Equal(t, other, text, "they look the same")
		}
		if other, twice := reviews[page]; twice {
			require.Equal(t, other, text, "they look the same")
		}
		cards[card], reviews[page] = text, text
	}
}

func TestASpoofedAddressIsShownInASCII(t *testing.T) {
	t.Parallel()
	for _, text := range spoofs(t) {
		v := pendingView(t, func(s *approvals.Submission, _ *approvals.Plan) {
			s.Call.Method, s.Call.Path, s.Call.Query = text, "/"+text, text
		})
		line, _, _ := strings.Cut(shownRequest(slack.Card(v)), "\n")
		for _, r := range line {
			require.True(t, r >= ' ' && r < 0x7f || r == '…', "%q shows %U", text, r)
		}
	}
}

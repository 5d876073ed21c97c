package policy_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestEveryProblemOfAFileIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := policy.Load("testdata/mistakes.yaml", getenv)
	var found policy.Problems
	require.ErrorAs(t, err, &found)
	require.Greater(t, len(found), 30)
	for _, p := range found {
		require.Equal(t, "testdata/mistakes.yaml", p.File)
		require.Positive(t, p.Line)
		require.Positive(t, p.Column)
		require.Contains(t, p.Excerpt, "^")
	}
	golden(t, "testdata/mistakes.golden", err.Error()+"\n")
	for _, secret := range []string{"xoxb-this", "hunter2", "this-is-the-key"} {
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, found, found), secret)
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path) //nolint:gosec // a path of this test
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// mistake is one wrong thing in a small configuration. In the text of the section, ➤ stands
// in front of the place that must be named.
type mistake struct {
	promise, section, text, message string
	// also replaces further sections.
	also map[string]string
}

func TestEachProblemNamesItsPlace(t *testing.T) {
	t.Parallel()
	for _, tt := range slices.Concat(mistakesOfForm(), mistakesOfService(), mistakesOfPeople(), mistakesOfUpstreams(), mistakesOfRules(), mistakesOfQuorum(),
		mistakesOfIdentity(), mistakesOfHours(), mistakesOfStages(), mistakesOfBypass(), mistakesOfCallers(), mistakesOfEndpoints(), mistakesOfLanes()) {
		t.Run(tt.promise, func(t *testing.T) {
			t.Parallel()
			replace := map[string]string{tt.section: tt.text}
			maps.Copy(replace, tt.also)
			text := sections(replace)
			line, column := place(t, text)
			found := problems(t, strings.ReplaceAll(text, "➤", ""))
			require.Len(t, found, 1, "want one problem and no consequences, got:\n%s", found)
			got := found[0]
			require.Equal(t, tt.message, strings.TrimSuffix(got.Message+" ("+got.Hint+")", " ()"), "at %d:%d", got.Line, got.Column)
			require.Equal(t, fmt.Sprintf("%d:%d", line, column), fmt.Sprintf("%d:%d", got.Line, got.Column))
		})
	}
}

// place returns where ➤ stands.
func place(t *testing.T, text string) (line, column int) {
	t.Helper()
	before, _, ok := strings.Cut(text, "➤")
	require.True(t, ok, "the text of the test has no mark")
	line = strings.Count(before, "\n") + 1
	return line, len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
}

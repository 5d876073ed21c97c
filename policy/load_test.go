package policy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/policy"
)

// split spreads a configuration over files of a directory.
func split(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

const (
	ruleA = "rules:\n  - {name: a, match: {methods: [GET]}, action: allow}\n"
	ruleB = "rules:\n  - {name: b, match: {methods: [POST]}, action: deny}\n"
)

func TestADirectoryIsReadInTheOrderOfNames(t *testing.T) {
	t.Parallel()
	base := sections(map[string]string{"rules": "", "server": "server: {drain: 5s}\n"})
	dir := split(t, map[string]string{
		"10-base.yaml": base, "20-b.yaml": ruleB, "30-a.yaml": ruleA, "40-empty.yaml": "# nothing\n",
		".hidden.yaml": "nonsense: [", "README.md": "nonsense: [",
	})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	c, err := policy.Load(dir, getenv)
	require.NoError(t, err)
	require.Equal(t, "b", c.Rules[0].Name)
	require.Equal(t, "a", c.Rules[1].Name)

	one, err := policy.Parse("config.yaml", []byte(base+ruleB+strings.TrimPrefix(ruleA, "rules:\n")), getenv)
	require.NoError(t, err)
	require.Equal(t, one.Digest, c.Digest, "how a configuration is spread over files does not matter")
}

func TestProblemsAcrossFilesNameBoth(t *testing.T) {
	t.Parallel()
	dir := split(t, map[string]string{
		"a.yaml": sections(map[string]string{"server": "server: {drain: 5s}\n"}),
		"b.yaml": "server: {drain: 6s}\npeople:\n  - {name: bo, slack: U0BB}\nrules:\n  - {name: ask, match: {}, action: deny}\n",
		"c.yml":  ruleA,
	})
	_, err := policy.Load(dir, getenv)
	var found policy.Problems
	require.ErrorAs(t, err, &found)
	text := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
	require.Equal(t, `c.yml: the file would not be read (rename it to .yaml)
b.yaml:1:9: the section "server" is already in a.yaml, line 1
    1 | server: {drain: 6s}
      |         ^
b.yaml:3:12: the person "bo" is already defined (a.yaml, line 6)
    3 |   - {name: bo, slack: U0BB}
      |            ^
b.yaml:5:12: the rule "ask" is already defined (a.yaml, line 13)
    5 |   - {name: ask, match: {}, action: deny}
      |            ^`, text)
}

func TestAFileThatCannotBeTakenApartHidesNoOtherProblem(t *testing.T) {
	t.Parallel()
	dir := split(t, map[string]string{"a.yaml": "server: {drain: 5}\nrules: [\n", "b.yaml": "server: {drain: 5}\n"})
	_, err := policy.Load(dir, getenv)
	var found policy.Problems
	require.ErrorAs(t, err, &found)
	require.Len(t, found, 2)
	require.Contains(t, found[0].String(), "a.yaml:2:8: not valid YAML: ")
	require.Contains(t, found[1].String(), "b.yaml:1:17: drain needs a unit")
}

func TestWhatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	_, err := policy.Load(filepath.Join(t.TempDir(), "missing.yaml"), getenv)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = policy.Load(t.TempDir(), getenv)
	require.ErrorContains(t, err, "no *.yaml file")
	_, err = policy.Load(os.DevNull, getenv)
	require.ErrorContains(t, err, "not a regular file")
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a.yaml"), 0o700))
	_, err = policy.Load(dir, getenv)
	require.ErrorContains(t, err, "not a regular file")
}

func TestAnEmptyFileLacksEverything(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# only a comment\n", "---\n", "\ufeff"} {
		found := problems(t, text)
		require.Len(t, found, 3, text)
		for i, section := range []string{"upstreams", "callers", "rules"} {
			require.Contains(t, found[i].Message, `the section "`+section+`" is missing`)
			require.Equal(t, 1, found[i].Line)
		}
	}
}

func TestWhatNoEditorShowsIsRefused(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{"\t", "\x00", "\x07", "\x1b[2J", "\x7f", "\u0085", "\u200b", "\u202e", "\u2066", "\ufeff", "\xff", "\u2028"} {
		found := problems(t, "server:\n  data_dir: é"+odd+"x\n")
		require.Len(t, found, 1)
		require.Contains(t, found[0].Message, "the line has a tab, another control character")
		require.Equal(t, 2, found[0].Line)
		require.Equal(t, 14, found[0].Column)
		require.NotContains(t, found[0].Excerpt, odd)
	}
	c, err := policy.Parse("config.yaml", []byte("\ufeff"+strings.ReplaceAll(sections(nil), "\n", "\r\n")), getenv)
	require.NoError(t, err, "a byte order mark and the line ends of Windows are harmless")
	require.Equal(t, parse(t, nil).Digest, c.Digest)
}

func TestTheSizeOfAFileIsBounded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		strings.Repeat("# x\n", 1<<18+1):         "the file is larger than 1MiB",
		"# " + strings.Repeat("x", 8<<10) + "\n": "the line is longer than 8KiB",
		"a: " + strings.Repeat("[", 33):          "brackets nest deeper than 32",
		strings.Repeat("&a ", 21) + "a: b":       "anchors (&) are not supported",
	} {
		require.Contains(t, problems(t, text)[0].Message, want)
	}
	found := problems(t, strings.Repeat("wrong: 1\n", 2000))
	require.Len(t, found, 501)
	require.Equal(t, "1503 more problems are not shown", found[500].Message)
}

func TestAPathWithoutQuotesIsExplained(t *testing.T) {
	t.Parallel()
	found := problems(t, sections(map[string]string{"rules": match("upstream: billing, path: /customers/{id}")}))
	require.Len(t, found, 1)
	require.Contains(t, found[0].Message, "not valid YAML")
	require.Equal(t, `put a path with {name} in quotes: "/customers/{id}"`, found[0].Hint)
	require.Equal(t, 12, found[0].Line)
	c := parse(t, map[string]string{"rules": "rules:\n  - name: r\n    action: allow\n    match:\n      path: /customers/{id}\n"})
	require.Equal(t, "/customers/{id}", c.Rules[0].Match.Path)
}

package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func completionScript(t *testing.T, shell string) string {
	t.Helper()
	r := command(t, nil, "completion", shell)
	require.Equal(t, 0, r.code, r.stderr)
	return r.stdout.String()
}

func TestBashReadsItsScriptAndCompletes(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	script := write(t, "completion.bash", completionScript(t, "bash"))
	out, err := exec.CommandContext(t.Context(), bash, "-n", script).CombinedOutput() //nolint:gosec // a script of ours
	require.NoError(t, err, "%s", out)
	for line, want := range map[string]string{
		"countersign su":                           "submit",
		"countersign keys si":                      "signing",
		"countersign submit --on":                  "--on-behalf-of",
		"countersign --server x tickets --mi":      "--mine",
		"countersign completion f":                 "fish",
		"countersign resolve tkt_1 --reason x suc": "succeeded",
		"countersign callbacks ver":                "verify",
		"countersign nonsense":                     "",
	} {
		words := strings.Fields(line)
		quoted := "'" + strings.Join(words, "' '") + "'"
		code := `source "$1"; COMP_WORDS=(` + quoted + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _countersign; echo "${COMPREPLY[*]}"; complete -p countersign`
		out, err := exec.CommandContext(t.Context(), bash, "--norc", "-c", code, "bash", script).CombinedOutput() //nolint:gosec // a script of ours
		require.NoError(t, err, "%s", out)
		require.Equal(t, want+"\ncomplete -o default -F _countersign countersign\n", string(out), line)
	}
}

func TestTheOtherShellsHaveEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	for shell, words := range map[string][]string{
		"zsh": {
			"#compdef countersign\n", `"countersign keys signing")`, "'submit:Submit a call for approval'", "'--idempotency-key:",
			"commands=('bash' 'zsh' 'fish')", "compdef _countersign countersign",
		},
		"fish": {
			"complete -c countersign -n '[ (__countersign_place) = \"countersign\" ]' -f -a submit -d 'Submit a call for approval'\n",
			"complete -c countersign -n '[ (__countersign_place) = \"countersign submit\" ]' -l idempotency-key -d ",
			"complete -c countersign -n '[ (__countersign_place) = \"countersign resolve\" ]' -f -a succeeded",
		},
	} {
		script := completionScript(t, shell)
		for _, w := range words {
			require.Contains(t, script, w, shell)
		}
		for line := range strings.Lines(script) {
			require.Zero(t, strings.Count(line, "'")%2, "quotes come in pairs in %s: %s", shell, line)
			require.Zero(t, strings.Count(line, `"`)%2, "quotes come in pairs in %s: %s", shell, line)
		}
		if path, err := exec.LookPath(shell); err == nil {
			out, err := exec.CommandContext(t.Context(), path, "-n", write(t, "completion", script)).CombinedOutput() //nolint:gosec // a script of ours
			require.NoError(t, err, "%s", out)
		}
	}
	command(t, nil, "completion", "tcsh").requireRefused(t, exitUsage, "bash")
}

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	for args, words := range map[string][]string{
		"":                   {"Usage: countersign", "dev", "serve", "migrate", "keys", "Start with"},
		"--help":             {"Usage: countersign", "dev", "serve", "migrate", "keys"},
		"dev --help":         {"--port", "--dir", "--fresh", "--json", "Ctrl-C"},
		"serve --help":       {"--config", "--listen", "--check", "DATABASE_URL", "SIGTERM", "rules:"},
		"migrate --help":     {"--database-url", "countersign_app"},
		"keys --help":        {"keys new"},
		"keys new --help":    {"--json"},
		"version --help":     {"version"},
		"serve -h":           {"--config"},
		"dev --port=1 -h":    {"--port"},
		"keys new --json -h": {"--json"},
		"submit --help":      {"--wait", "--why", "COUNTERSIGN_KEY", "never part of the command line", "Exit codes"},
		"wait --help":        {"--timeout", "Ctrl-C", "Exit codes"},
		"tickets --help":     {"--mine", "--state", "Exit codes"},
		"approve --help":     {"--digest", "--yes", "--break-glass", "Exit codes"},
		"deny --help":        {"--digest", "Exit codes"},
		"ask --help":         {"Exit codes"},
		"answer --help":      {"Exit codes"},
		"cancel --help":      {"--reason", "Exit codes"},
		"resolve --help":     {"--reason", "Exit codes"},
		"redeliver --help":   {"--endpoint", "--since", "Exit codes"},
		"callbacks --help":   {"verify", "enable", "disable", "test", "deliveries"},
		"completion --help":  {"bash", "zsh", "fish"},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, strings.Fields(args)...)
			require.Equal(t, 0, r.code, "exit code; stderr:\n%s", r.stderr)
			require.Empty(t, r.stderr.String(), "help is no complaint")
			for _, w := range words {
				require.Contains(t, r.stdout.String(), w)
			}
		})
	}
}

func TestEveryFlagIsExplained(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"dev", "serve", "migrate", "keys new", "keys hash", "keys check", "keys signing", "keys encryption", "submit", "wait", "tickets",
		"approve", "deny", "ask", "answer", "cancel", "resolve", "redeliver", "callbacks list", "callbacks test", "callbacks disable",
		"callbacks deliveries",
	} {
		r := command(t, nil, append(strings.Fields(name), "--help")...)
		for line := range strings.Lines(r.stdout.String()) {
			if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(strings.TrimLeft(line, " "), "-") {
				require.Greater(t, len(f), 2, "%s explains its flag: %q", name, line)
			}
		}
	}
}

func TestAMistypedCommandLineIsOneLineAndExitCode2(t *testing.T) {
	t.Parallel()
	for args, words := range map[string]string{
		"frobnicate":             "frobnicate",
		"serve --confg x":        "--confg",
		"serve":                  "--config",
		"dev extra":              "extra",
		"dev --port many":        "--port",
		"keys":                   "new",
		"keys old":               "old",
		"serve --log-level loud": "--log-level",
		"serve --log-format xml": "--log-format",
		"migrate":                "--database-url",
		"version --short":        "--short",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, strings.Fields(args)...)
			r.requireRefused(t, exitUsage, words)
			require.Empty(t, r.stdout.String(), "nothing on stdout")
		})
	}
}

func TestVersionIsPrinted(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "version")
	require.Equal(t, 0, r.code)
	require.Equal(t, "countersign "+version+"\n", r.stdout.String())
}

func TestAMistypedCommandLineNamesTheHelpOfItsCommand(t *testing.T) {
	t.Parallel()
	for args, command := range map[string]string{
		"frobnicate":                             "countersign",
		"callbacks disable end_1 --comment x":    "countersign callbacks disable",
		"callbacks disable end_1":                "countersign callbacks disable",
		"callbacks":                              "countersign callbacks",
		"submit billing GET /x --weight 3":       "countersign submit",
		"keys new --jsn":                         "countersign keys new",
		"resolve tkt_1 perhaps --reason because": "countersign resolve",
	} {
		require.Contains(t, lineOf(t, args), "\nSee "+command+" --help.\n", args)
	}
}

// lineOf is what a command line is answered with on stderr.
func lineOf(t *testing.T, args string) string {
	t.Helper()
	return command(t, nil, strings.Fields(args)...).stderr.String()
}

func TestAReasonMayBeGivenAsWhyAndAsReason(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"callbacks disable end_1", "cancel tkt_1", "resolve tkt_1 failed", "deny tkt_1 --yes", "approve tkt_1 --yes", "submit billing GET /x"} {
		for _, flag := range []string{"--why", "--reason"} {
			require.NotContains(t, lineOf(t, args+" "+flag+" because"), "unknown flag", "%s %s", args, flag)
		}
	}
}

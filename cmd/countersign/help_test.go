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
	for _, name := range []string{"dev", "serve", "migrate", "keys new"} {
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

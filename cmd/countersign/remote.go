package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"countersign/client"
)

// Exit codes of the commands that speak with a server, besides 0, 1 and 2. They are part of
// what scripts rely on: see docs/cli.md.
const (
	exitDenied     = 3 // the call was denied
	exitEnded      = 4 // it expired, or was cancelled
	exitUpstream   = 5 // the upstream answered outside of what counts as success, or was not reached
	exitUnknown    = 6 // it was sent, or may have been, and no answer was seen
	exitNotDone    = 7 // the wait ended before the ticket did
	exitNotAllowed = 8 // the server knows no such key or ticket, or does not allow that
)

// remoteHelp is shown by every command that speaks with a server.
const remoteHelp = `The server is --server or $COUNTERSIGN_URL. The key is $COUNTERSIGN_KEY, or what --key-file holds:
never part of the command line, which everybody on the machine can read and the shell writes down.

Exit codes: 0 done, 1 failed on our side, 2 wrong usage, 3 denied, 4 expired or cancelled, 5 failed
upstream, 6 outcome unknown, 7 the wait ended first, 8 not allowed or not found.`

// remoteFlags say which server is asked, and as whom.
type remoteFlags struct {
	Server    string `help:"Address of the server, such as https://countersign.example.com (or $COUNTERSIGN_URL)." placeholder:"URL"`
	KeyFile   string `help:"File with the key, - for standard input (or the key itself in $COUNTERSIGN_KEY)." placeholder:"FILE" type:"path"`
	AllowHTTP bool   `help:"Send the key over plain http to a host that is not this one." name:"allow-http"`
	JSON      bool   `help:"Print JSON, as the API writes it: one object, or one a line."`
}

// connect makes the client of a command.
func (f remoteFlags) connect(env environment) (*client.Client, error) {
	key, err := f.key(env)
	if err != nil {
		return nil, usageError{err}
	}
	server := cmp.Or(f.Server, env.getenv("COUNTERSIGN_URL"))
	if server == "" {
		return nil, usageError{errors.New("give --server URL, or set COUNTERSIGN_URL")}
	}
	c, err := client.New(client.Config{
		BaseURL: server, Key: key, AllowHTTP: f.AllowHTTP, UserAgent: "countersign/" + version, Now: env.now,
	})
	if err != nil {
		text := strings.NewReplacer("client: ", "", "Config.BaseURL", "--server", "Config.Key", "the key").Replace(err.Error())
		return nil, usageError{errors.New(text)}
	}
	return c, nil
}

// maxKeyFile bounds a key file, in bytes: tokens are longer than keys.
const maxKeyFile = 16 << 10

func (f remoteFlags) key(env environment) (client.Secret, error) {
	text := env.getenv("COUNTERSIGN_KEY")
	if f.KeyFile != "" {
		var err error
		if text, err = readSmall(env, f.KeyFile); err != nil {
			return "", fmt.Errorf("--key-file: %w", err)
		}
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", errors.New("set COUNTERSIGN_KEY to your key, or give --key-file FILE")
	}
	return client.Secret(text), nil
}

// readSmall reads a file, or standard input for "-".
func readSmall(env environment, name string) (string, error) {
	from := env.stdin
	if name != "-" {
		file, err := os.Open(name) //nolint:gosec // whoever runs the command names the file
		if err != nil {
			return "", err
		}
		defer func() { _ = file.Close() }() // nothing was written
		from = file
	}
	raw, err := io.ReadAll(io.LimitReader(from, maxKeyFile+1))
	if err == nil && len(raw) > maxKeyFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxKeyFile)
	}
	return string(raw), err
}

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code int
}

// Unwrap returns the error.
func (e codedError) Unwrap() error { return e.error }

// coded gives an error of the client its exit code.
func coded(err error) error {
	if err == nil {
		return nil
	}
	return codedError{said{err}, codeOf(err)}
}

// toldError is an error that has been told already, in better words than its own.
type toldError struct{ error }

// Unwrap returns the error.
func (e toldError) Unwrap() error { return e.error }

// said is an error whose text, much of which a server wrote, is fit for a terminal.
type said struct{ error }

// Error is one line.
func (e said) Error() string { return safe(e.error.Error()) }

// Unwrap returns the error.
func (e said) Unwrap() error { return e.error }

func codeOf(err error) int {
	var denied *client.DeniedError
	var expired *client.ExpiredError
	var cancelled *client.CancelledError
	var failed *client.FailedError
	var unknown *client.OutcomeUnknownError
	var notDone *client.NotDoneError
	var problem *client.ProblemError
	switch {
	case errors.As(err, &denied):
		return exitDenied
	case errors.As(err, &expired), errors.As(err, &cancelled):
		return exitEnded
	case errors.As(err, &failed):
		return exitUpstream
	case errors.As(err, &unknown):
		return exitUnknown
	case errors.As(err, &notDone), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return exitNotDone
	case errors.As(err, &problem) && problem.Code != "":
		switch problem.Status {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
			return exitNotAllowed
		}
	}
	return exitFailed
}

// terminalInput is an input that says whether a person types there. Standard input is one
// by itself; tests have others.
type terminalInput interface{ Terminal() bool }

// interactive says whether there is somebody to be asked.
func interactive(env environment) bool {
	switch in := env.stdin.(type) {
	case *os.File:
		return isTerminal(in)
	case terminalInput:
		return in.Terminal()
	}
	return false
}

// confirmed asks, and takes nothing but a whole yes.
func confirmed(env environment, question string) (bool, error) {
	if _, err := fmt.Fprintf(env.stderr, "%s Type yes: ", question); err != nil {
		return false, err
	}
	lines := bufio.NewScanner(env.stdin)
	got := make(chan string, 1)
	go func() { // a read from a terminal does not end with the context
		lines.Scan()
		got <- lines.Text()
	}()
	select {
	case text := <-got:
		return strings.EqualFold(strings.TrimSpace(text), "yes"), nil
	case <-env.ctx.Done():
		return false, env.ctx.Err()
	}
}

// printJSON prints a document of the server on a line of its own.
func printJSON(env environment, raw []byte) error {
	line := strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", " ")
	_, err := fmt.Fprintln(env.stdout, line)
	return err
}

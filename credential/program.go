package credential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// maxOutput bounds what a program may print, in bytes.
	maxOutput = 64 << 10
	// graceAfterKill is how long its pipes are waited for once a program was killed: a child
	// that left its process group may hold them.
	graceAfterKill = time.Second
)

// ErrUnavailable is what every failure to get a credential is. The text around it holds
// nothing that a program printed.
var ErrUnavailable = errors.New("the credential is not available")

// environment is what a program sees of ours: where programs are, where its files may be, and
// in what language it speaks.
func environment() []string {
	var out []string
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		if value, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+value)
		}
	}
	return out
}

// run runs a program once and returns what it printed, without the space around it.
func run(ctx context.Context, argv []string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if len(argv) == 0 || argv[0] == "" {
		return "", fmt.Errorf("%w: no program is named", ErrUnavailable)
	}
	var out bounded
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the operator names the program
	cmd.Env, cmd.Stdout = environment(), &out             // stdin and stderr are /dev/null
	// A group of its own, so that what it started in turn dies with it.
	inGroup(cmd)
	cmd.WaitDelay = graceAfterKill
	err := cmd.Run()
	switch {
	case out.over: // and killed by the broken pipe
		return "", fmt.Errorf("%w: %w", ErrUnavailable, errTooMuch)
	case err != nil:
		return "", fmt.Errorf("%w: %s", ErrUnavailable, reason(ctx, err, timeout))
	}
	return out.value()
}

// reason says why there is no value, in words of ours.
func reason(ctx context.Context, err error, timeout time.Duration) string {
	var exit *exec.ExitError
	var start *exec.Error
	var path *os.PathError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("the program did not end within %s", timeout)
	case ctx.Err() != nil:
		return "the program was not waited for"
	case errors.As(err, &exit):
		return "the program ended with " + exit.String()
	case errors.As(err, &start):
		return "the program cannot be run: " + start.Err.Error()
	case errors.As(err, &path):
		return "the program cannot be run: " + path.Err.Error()
	}
	return "the program could not be run to its end"
}

var errTooMuch = fmt.Errorf("the program printed more than %d KiB", maxOutput>>10)

// bounded takes what a program prints, up to a limit. The buffer is a field of its own: its
// ReadFrom would know no limit.
type bounded struct {
	buffer bytes.Buffer
	over   bool
}

// Write fails beyond the limit, which breaks the program's pipe.
func (b *bounded) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > maxOutput {
		b.over = true
		return 0, errTooMuch
	}
	return b.buffer.Write(p)
}

// value is what was printed, if it can be a header field's.
func (b *bounded) value() (string, error) {
	value := strings.TrimSpace(b.buffer.String())
	switch {
	case value == "":
		return "", fmt.Errorf("%w: the program printed nothing", ErrUnavailable)
	case !httpguts.ValidHeaderFieldValue(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
		return "", fmt.Errorf("%w: what the program printed is not a header value", ErrUnavailable)
	}
	return value, nil
}

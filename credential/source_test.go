package credential_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/credential"
	"countersign/egress"
)

// asProgram is the first argument that turns this very binary into a program that prints a
// credential: it gets no environment to be told by.
const asProgram = "as-a-credential-program"

const canary = "canary-5c0e9d"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == asProgram {
		program(os.Args[2], os.Args[3:])
		return
	}
	os.Exit(m.Run())
}

// program does what a test asked for.
func program(what string, args []string) {
	switch what {
	case "print":
		fmt.Printf(" \n%s\n\n", strings.Join(args, "|"))
	case "environment":
		for _, e := range os.Environ() {
			name, _, _ := strings.Cut(e, "=")
			fmt.Print(name, " ")
		}
	case "fail":
		fmt.Println(canary)
		fmt.Fprintln(os.Stderr, canary)
		os.Exit(3)
	case "bytes":
		fmt.Print(args[0] + canary)
	case "flood":
		for {
			if _, err := fmt.Print(strings.Repeat("x", 1000)); err != nil {
				os.Exit(1)
			}
		}
	case "ask": // prints what it is told on a connection
		fmt.Print(hold(args[0]))
	case "spawn": // a child holds on to its standard output, and to the connection
		child := exec.Command(os.Args[0], asProgram, "ask", args[0]) //nolint:gosec,noctx // ourselves
		child.Stdout = os.Stdout
		_ = child.Run()
	}
}

func hold(address string) string {
	conn, err := net.Dial("tcp", address) //nolint:noctx,gosec // a program of a test
	if err != nil {
		os.Exit(1)
	}
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return line
}

// command runs this binary as a program.
func command(tb testing.TB, args ...string) credential.Command {
	tb.Helper()
	self, err := os.Executable()
	require.NoError(tb, err)
	return credential.Command{Argv: append([]string{self, asProgram}, args...)}
}

// clock is a clock that stands still unless told otherwise.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.seconds.Load(), 0) }

func source(tb testing.TB, c *clock, timeout time.Duration) *credential.Source {
	tb.Helper()
	s, err := credential.New(credential.Config{Timeout: timeout, Now: c.now})
	require.NoError(tb, err)
	return s
}

// listen accepts connections of programs.
func listen(tb testing.TB) (address string, conns <-chan net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	out := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			out <- conn
		}
	}()
	return l.Addr().String(), out
}

func TestReadReturnsWhatTheProgramPrintedWithoutSpaceAndAfterThePrefix(t *testing.T) {
	t.Parallel()
	s, c := source(t, &clock{}, 0), command(t, "print", canary)
	c.Prefix = "Bearer "
	got, err := s.Read(t.Context(), c)
	require.NoError(t, err)
	require.True(t, got.Equal(egress.NewSecret("Bearer "+canary)), "the value")
	require.Equal(t, "*** *** ***", fmt.Sprintf("%s %v %+v", got, got, got))
}

func TestProgramIsRunWithoutAShell(t *testing.T) {
	t.Parallel()
	got, err := source(t, &clock{}, 0).Read(t.Context(), command(t, "print", "$(id)", "; id", "$HOME", "*"))
	require.NoError(t, err)
	require.True(t, got.Equal(egress.NewSecret("$(id)|; id|$HOME|*")))
}

func TestProgramSeesNoMoreOfOurEnvironmentThanItNeeds(t *testing.T) {
	t.Setenv("CREDENTIAL_TEST_SECRET", canary)
	t.Setenv("LANG", "C.UTF-8")
	t.Setenv("HOME", t.TempDir())
	got, err := source(t, &clock{}, 0).Read(t.Context(), command(t, "environment"))
	require.NoError(t, err)
	require.True(t, got.Equal(egress.NewSecret("PATH HOME LANG")), "only these three")
}

func TestFailureSaysNothingThatTheProgramPrinted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		command credential.Command
		says    string
	}{
		"exit":         {command(t, "fail"), "exit status 3"},
		"nothing":      {command(t, "print"), "printed nothing"},
		"two lines":    {command(t, "bytes", "a\n"), "not a header value"},
		"control":      {command(t, "bytes", "a\x01"), "not a header value"},
		"not ASCII":    {command(t, "bytes", "ä"), "not a header value"},
		"too much":     {command(t, "flood"), "more than 64 KiB"},
		"no such file": {credential.Command{Argv: []string{filepath.Join(t.TempDir(), "missing"), canary}}, "no such file"},
		"no program":   {credential.Command{}, "no program"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := source(t, &clock{}, time.Minute).Read(t.Context(), test.command)
			require.ErrorIs(t, err, credential.ErrUnavailable)
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), canary)
		})
	}
}

func TestDeadlineKillsTheProgramAndWhatItStarted(t *testing.T) {
	t.Parallel()
	address, conns := listen(t)
	_, err := source(t, &clock{}, 2*time.Second).Read(t.Context(), command(t, "spawn", address))
	require.ErrorIs(t, err, credential.ErrUnavailable)
	require.ErrorContains(t, err, "did not end within 2s")
	conn := <-conns
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second))) //nolint:forbidigo // a bound for the test
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the child holds its connection no more: it is dead")
}

func TestProgramRunsOnceForAllWhoWaitForIt(t *testing.T) {
	t.Parallel()
	address, conns := listen(t)
	s := source(t, &clock{}, time.Minute)
	gone, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := s.Read(gone, command(t, "ask", address))
		left <- err
	}()
	conn := <-conns // the program is running
	leave()
	require.ErrorIs(t, <-left, credential.ErrUnavailable, "who gives up is told so")

	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(func() {
			got, err := s.Read(t.Context(), command(t, "ask", address))
			if err != nil || !got.Equal(egress.NewSecret(canary)) {
				t.Errorf("one of those who wait: %v, the right value: %t", err, got.Equal(egress.NewSecret(canary)))
			}
		})
	}
	waiting.Go(func() { _, _ = fmt.Fprintln(conn, canary) })
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		waiting.Wait()
	}()
	for n := 0; ; n++ { // one that came after the end of the first run began another
		select {
		case another := <-conns:
			_, _ = fmt.Fprintln(another, canary)
			require.Less(t, n, 9, "each had a run of its own")
		case <-answered:
			return
		}
	}
}

func TestValueIsKeptForAsLongAsItMayBe(t *testing.T) {
	t.Parallel()
	address, conns := listen(t)
	time := &clock{}
	s, c := source(t, time, 0), command(t, "ask", address)
	c.Cache = 60e9
	read := func(want string) {
		got, err := s.Read(t.Context(), c)
		require.NoError(t, err)
		require.True(t, got.Equal(egress.NewSecret(want)), "the value is %s", want)
	}
	answer := func(value string) { go func() { _, _ = fmt.Fprintln(<-conns, value) }() }

	answer("first")
	read("first")
	time.seconds.Add(59)
	read("first") // nobody would answer the program
	time.seconds.Add(1)
	answer("second")
	read("second")

	s.Refused(c)
	read("second") // so young that the program would say the same
	time.seconds.Add(10)
	s.Refused(c)
	answer("third")
	read("third")
}

func TestFailureIsNotKept(t *testing.T) {
	t.Parallel()
	address, conns := listen(t)
	s, c := source(t, &clock{}, 0), command(t, "ask", address)
	c.Cache = time.Hour
	go func() { _ = (<-conns).Close() }()
	_, err := s.Read(t.Context(), c)
	require.ErrorIs(t, err, credential.ErrUnavailable)
	go func() { _, _ = fmt.Fprintln(<-conns, canary) }()
	got, err := s.Read(t.Context(), c)
	require.NoError(t, err)
	require.True(t, got.Equal(egress.NewSecret(canary)))
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := credential.New(credential.Config{})
	require.ErrorContains(t, err, "Now")
}

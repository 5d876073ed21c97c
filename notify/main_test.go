package notify_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"countersign/db/dbtest"
)

// asWorker, where the build has it, turns the process into one of the crash tests' senders.
var asWorker func()

func TestMain(m *testing.M) {
	if asWorker != nil && os.Getenv(workerMark) != "" {
		asWorker()
		return
	}
	slog.SetDefault(quiet())
	dbtest.Main(leakChecked{m})
}

const workerMark = "NOTIFY_TEST_WORKER"

func quiet() *slog.Logger {
	if os.Getenv("NOTIFY_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// parallel is how many tests run at once: they wait most of the time.
const parallel = "4"

// leakChecked fails the run when a test leaves a goroutine behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left:", err)
			code = 1
		}
	}
	return code
}

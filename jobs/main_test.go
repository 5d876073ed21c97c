package jobs_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"countersign/db/dbtest"
)

// asWorker, where the build has it, turns the process into one of the crash tests' workers.
var asWorker func()

func TestMain(m *testing.M) {
	if asWorker != nil && os.Getenv(workerMark) != "" {
		asWorker()
		return
	}
	slog.SetDefault(quiet())
	dbtest.Main(leakChecked{m})
}

const workerMark = "JOBS_TEST_WORKER"

// parallel is how many tests run at once: they wait most of the time.
const parallel = "8"

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

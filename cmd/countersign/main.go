// Command countersign is a gate in front of privileged APIs: callers submit an HTTP call
// and get a ticket, people approve it in Slack, and the call is made once.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"countersign/db/embedded"
)

func main() {
	embedded.RunChildIfAsked() // the embedded database is a child of this very binary
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

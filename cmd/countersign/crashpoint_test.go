package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db/dbtest"
)

const crashSymbol = "countersign/jobs/crashpoint.Hit"

// binary builds the program, as a release is built but for the tags.
func binary(t *testing.T, tags string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	path := filepath.Join(openDir(t), "countersign")
	out, err := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", path, ".").CombinedOutput() //nolint:gosec // our own package
	require.NoError(t, err, "%s", out)
	return path
}

// symbols lists what a binary is made of.
func symbols(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "nm", path).Output() //nolint:gosec // what was just built
	require.NoError(t, err)
	require.Contains(t, string(out), "countersign/jobs.", "the list is that of our program")
	return string(out)
}

// process starts `serve` as a process of its own.
func process(t *testing.T, path, databaseURL, config string, env ...string) (served, *exec.Cmd) {
	t.Helper()
	s := served{running: &running{stdout: &buffer{}, stderr: &buffer{}, done: make(chan struct{})}}
	//nolint:gosec // what was just built; it outlives the test's context, to be stopped below
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, "serve", "--config", config, "--listen", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr, cmd.Env = s.stdout, s.stderr, env
	for name, value := range servingEnv(databaseURL) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	require.NoError(t, cmd.Start())
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		s.code = cmd.ProcessState.ExitCode()
		close(s.done)
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-s.done })
	s.base = fmt.Sprintf("http://%s", s.logged(t, "serving")["address"])
	return s, cmd
}

func TestAnOrdinaryBuildHoldsNoCrashPoint(t *testing.T) {
	t.Parallel()
	path, database := binary(t, ""), dbtest.Database(t)
	require.NotContains(t, symbols(t, path), crashSymbol)
	up, calls := recorder(t, http.StatusOK)

	s, cmd := process(t, path, database, settings{upstream: up}.file(t), "CRASH=execute.begun")
	id := s.submit(t, map[string]any{"upstream": "billing", "method": "GET", "path": "/x"})
	arrival(t, calls, "the upstream call")
	s.state(t, id, "succeeded")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, s.end(t, 15*time.Second), "SIGTERM ends it well; stderr:\n%s", s.stderr)
}

func TestABuildForFaultInjectionDiesWhereItIsTold(t *testing.T) {
	t.Parallel()
	path, database := binary(t, "faultinject"), dbtest.Database(t)
	require.Contains(t, symbols(t, path), crashSymbol, "the test above looks for the right name")
	up, calls := recorder(t, http.StatusOK)

	s, cmd := process(t, path, database, settings{upstream: up}.file(t), "CRASH=execute.begun")
	body, err := json.Marshal(map[string]any{"upstream": "billing", "method": "GET", "path": "/x"})
	require.NoError(t, err)
	s.do(t, http.MethodPost, "/v1/tickets", body) // its answer may die with the process
	s.end(t, commandLimit)
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signal() == syscall.SIGKILL, "how it ended: %s; stderr:\n%s", cmd.ProcessState, s.stderr)
	require.Empty(t, calls, "it died before it dialled")

	again := serve(t, database, settings{upstream: up}.file(t))
	id := onlyTicket(t, again)
	again.state(t, id, "outcome_unknown")
	require.Empty(t, calls, "what may have been sent is not sent again")
	again.stop()
	require.Equal(t, 0, again.end(t, 15*time.Second), again.stderr)
	requireState(t, database, id, approvals.OutcomeUnknown)
}

// onlyTicket returns the id of the one ticket there is.
func onlyTicket(t *testing.T, s served) string {
	t.Helper()
	var list struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	require.NoError(t, json.Unmarshal(s.get(t, "/v1/tickets").body, &list))
	require.Len(t, list.Items, 1)
	return list.Items[0].ID
}

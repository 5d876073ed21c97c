//go:build unix

package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/db/embedded"
)

const (
	parentRole = "EMBEDDED_TEST_PARENT" // its value is the directory of the parent's database
	patience   = 20 * time.Second
)

// templates is where initialised clusters are kept for the length of the run.
var templates = filepath.Join(os.TempDir(), "countersign-embedded-test-"+strconv.Itoa(os.Getpid()))

func TestMain(m *testing.M) {
	embedded.RunChildIfAsked()
	if dir := os.Getenv(parentRole); dir != "" {
		runParent(dir)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := os.Mkdir(templates, 0o700); err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(templates) }()
	if err := os.Chmod(templates, 0o777|os.ModeSticky); err != nil {
		panic(err)
	}
	return m.Run()
}

// runParent is a program that uses a database and pays no heed to interrupts, until it is killed.
func runParent(dir string) {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	config := embedded.Config{
		Dir: dir, Fast: true, TemplateDir: os.Getenv("EMBEDDED_TEST_TEMPLATES"), Throwaway: os.Getenv("EMBEDDED_TEST_THROWAWAY") != "",
		Logger: slog.New(slog.DiscardHandler), Getenv: cleanEnv,
	}
	db, err := embedded.Start(context.Background(), config)
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(db.URL.Reveal())
	<-db.Done()
	os.Exit(1)
}

// cleanEnv hides databases of the developer's own.
func cleanEnv(name string) string {
	if name == "DATABASE_URL" {
		return ""
	}
	return os.Getenv(name)
}

func fast(dir string) embedded.Config {
	return embedded.Config{
		Dir: dir, Fast: true, TemplateDir: templates, Logger: slog.New(slog.DiscardHandler), Getenv: cleanEnv,
	}
}

// openDir is a directory that the server's account can reach: t.TempDir keeps its parent shut.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711)) //nolint:gosec // entered by another account on purpose
	return dir
}

func start(t *testing.T, config embedded.Config) *embedded.Database {
	t.Helper()
	db, err := embedded.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Stop(context.Background()) })
	return db
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var got T
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&got), sql)
	return got
}

func exe(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}

// eventually polls: what is waited for happens in processes that cannot signal us.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	require.Eventually(t, done, patience, 20*time.Millisecond, what)
}

func refusesConnections(t *testing.T, dsn string) bool {
	t.Helper()
	parsed, err := url.Parse(dsn)
	require.NoError(t, err)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", parsed.Host)
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

func postmaster(t *testing.T, db *embedded.Database) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(instance(db), "data", "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	return pid
}

func instance(db *embedded.Database) string {
	return filepath.Join(db.Dir, "pg"+strconv.Itoa(db.Major))
}

// startParent runs this test binary as a program with a database, alone in its process group, and returns its URL.
func startParent(t *testing.T, dir string, env ...string) (*exec.Cmd, string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), append(env, parentRole+"="+dir, "EMBEDDED_TEST_TEMPLATES="+templates)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		waitForChild(t, dir)
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	line = strings.TrimSpace(line)
	require.True(t, strings.HasPrefix(line, "postgres://"), line)
	return cmd, line
}

// waitForChild waits until the child of a killed parent has stopped its server, before the directory is removed.
func waitForChild(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "the child ends", func() bool {
		locks, err := filepath.Glob(filepath.Join(dir, "pg*", "child.lock"))
		require.NoError(t, err)
		for _, path := range locks {
			file, err := os.Open(path) //nolint:gosec // our own directory
			if err != nil {
				continue // deleted meanwhile by a throwaway
			}
			err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			_ = file.Close()
			if err != nil {
				return false
			}
		}
		return true
	})
}

//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

var errLocked = errors.New("locked by another process")

func supported() error { return nil }

// account is whom the child becomes when we are root.
type account struct {
	uid, gid uint32
}

func (a *account) String() string {
	id := strconv.FormatUint(uint64(a.uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// detached puts the child out of reach of the terminal's signals and, as root, into its account.
func detached(owner *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if owner != nil {
		attr.Credential = &syscall.Credential{Uid: owner.uid, Gid: owner.gid}
	}
	return attr
}

// prepare makes the instance directory and says whom the child must become to use it: nobody else (nil) unless we are
// root. Whoever owns the directory already stays its owner, even if a user postgres has appeared since.
func prepare(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, makePrivate(dir)
	}
	if info, err := os.Stat(dir); err == nil {
		if owner, err := ownerOf(info); err != nil || owner.uid != 0 {
			return owner, err
		}
	}
	owner, err := lookupAccount()
	if err != nil {
		return nil, err
	}
	return owner, prepareFor(dir, owner)
}

// prepareFor makes a directory that belongs to the account. Lchown: were the path a link, it would not be followed.
func prepareFor(dir string, owner *account) error {
	if err := makePrivate(dir); err != nil || owner == nil {
		return err
	}
	if err := os.Lchown(dir, int(owner.uid), int(owner.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", dir, owner, err)
	}
	return nil
}

func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	return nil
}

func lookupAccount() (*account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return &account{uint32(uid), uint32(gid)}, nil
		}
	}
	return nil, errors.New("embedded database: postgres does not run as root, and there is neither a user postgres nor a user nobody")
}

func ownerOf(info fs.FileInfo) (*account, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("read the owner of %s: unknown to this system", info.Name())
	}
	return &account{stat.Uid, stat.Gid}, nil
}

// ownedAlone refuses a directory that others could have written: not a directory, not ours, or open to others.
func ownedAlone(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("inspect %s: %w", dir, err)
	}
	owner, err := ownerOf(info)
	if err != nil {
		return err
	}
	if !info.IsDir() || int(owner.uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("inspect %s: it is not ours alone", dir)
	}
	return nil
}

// lockFile takes an exclusive lock that lasts until the file is closed or the process ends. No link is followed: the
// directory may belong to somebody we do not trust.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644) //nolint:gosec // the refused may read who holds it
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// restrict makes all that the child and Postgres create private, and has Postgres become our own child when pg_ctl, which
// starts it, has gone: so that we reap it, whoever process 1 may be.
func restrict() {
	unix.Umask(0o077)
	adoptOrphans()
}

// quit asks Postgres for an immediate shutdown; kill asks nothing. Only for a server that has not ended, whose number is
// therefore still its own.
func quit(pid int) { _ = unix.Kill(pid, unix.SIGQUIT) }
func kill(pid int) { _ = unix.Kill(pid, unix.SIGKILL) }

func alive(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// ended says whether the server's process is over; where it is our own child it is reaped.
func ended(pid int) bool {
	got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	if err == nil {
		return got == pid
	}
	return !alive(pid)
}

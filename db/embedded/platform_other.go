//go:build !unix

package embedded

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

var errLocked = errors.New("locked by another process")

// supported refuses: giving up rights and locking files work differently here, and so does the library.
func supported() error {
	return fmt.Errorf("the embedded database does not run on %s; only the first way out applies", runtime.GOOS)
}

type account struct{}

func (*account) String() string { return "" }

func detached(*account) *syscall.SysProcAttr { return nil }
func prepare(string) (*account, error)       { return nil, supported() }
func prepareFor(string, *account) error      { return supported() }
func ownedAlone(string) error                { return supported() }
func lockFile(string) (*os.File, error)      { return nil, supported() }
func restrict()                              {}
func quit(int)                               {}
func kill(int)                               {}
func alive(int) bool                         { return false }
func ended(int) bool                         { return true }

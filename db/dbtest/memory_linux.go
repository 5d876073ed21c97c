package dbtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// enoughMemory is what a run's databases and their log come to, with room to spare. A container's /dev/shm has 64 MiB
// unless asked for more: too few.
const enoughMemory = 2 << 30

// clusterParent is where clusters are made: in memory where there is enough of it.
func clusterParent() string {
	const memory = "/dev/shm"
	var stat unix.Statfs_t
	if unix.Statfs(memory, &stat) == nil && stat.Bavail*uint64(stat.Bsize) >= enoughMemory && //nolint:gosec // a block size is positive
		unix.Access(memory, unix.W_OK) == nil {
		return memory
	}
	return os.TempDir()
}

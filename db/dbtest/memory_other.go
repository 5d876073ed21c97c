//go:build !linux

package dbtest

import "os"

// clusterParent is where clusters are made.
func clusterParent() string { return os.TempDir() }

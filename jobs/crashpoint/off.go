//go:build !faultinject

package crashpoint

// Hit does nothing in ordinary builds.
func Hit(string) {}

// Package crashpoint names the lines at which tests kill the process, to prove what is
// left behind when it dies there.
package crashpoint

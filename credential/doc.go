// Package credential runs the programs that print credentials: what exec: references of a
// configuration stand for. It runs them without a shell and with hardly an environment, for a
// bounded time, keeps what they printed for as long as it may, and lets nothing of it into an
// error.
package credential

// Package embedded runs a private Postgres beside the program, for whoever has no DATABASE_URL.
//
// Postgres refuses to run as root and outlives the process that started it. Both are solved by one child process: Start
// runs this same executable again, as the user postgres (else nobody) when we are root, with an environment that holds
// none of our secrets. The child starts the server, answers one line of JSON with its URL and then waits for the end of
// its standard input. That end comes when the parent calls Stop, and just as surely when the parent is killed with
// SIGKILL, so no server is ever left behind by a crash of ours.
//
// A program that calls Start must therefore call RunChildIfAsked first thing in main, and in TestMain.
//
// # On disk
//
//	<dir>/lock              held by the parent while it uses the directory
//	<dir>/pg15/             one directory per major version, owned by the account the server runs as
//	<dir>/pg15/data/        the data; appears complete or not at all, and is never wiped
//	<dir>/pg15/password     the superuser's password, mode 0600
//	<dir>/pg15/log/         the server's log, one file per weekday, overwritten a week later
//	<dir>/pg15/run/         the Unix socket
//	<dir>/cache/            downloaded binaries, when there was nothing else
//
// The directory itself stays with root, so that the server's account can replace nothing that root opens.
//
// # Supervision
//
// The child ignores the signals of the terminal and of a service manager: it goes when its parent goes, after the parent
// has finished its last transaction. Under systemd use KillMode=mixed, since the default also signals Postgres itself.
package embedded

// Package migrations holds the database schema as numbered steps, run by golang-migrate.
// 001 to 008 are River's own, so that one command and one version number cover the whole
// database; the rest is ours. A step, once released, is never edited.
package migrations

import "embed"

// FS holds the steps as NNN_name.up.sql and NNN_name.down.sql.
//
//go:embed *.sql
var FS embed.FS

// Latest is the version that this build of the service expects.
const Latest = 15

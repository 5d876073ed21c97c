package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"countersign/db"
	"countersign/migrations"
)

// databaseLimit bounds looking at the database.
const databaseLimit = 20 * time.Second

// examineDatabase looks at the database as the service would.
func (d *doctor) examineDatabase(ctx context.Context, where string) {
	if where == "" {
		d.warn("there is no DATABASE_URL", "serve would use the embedded Postgres, which lives and dies with this machine's disk")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, databaseLimit)
	defer cancel()
	pool, err := db.Open(ctx, db.PoolConfig{URL: where, MaxConns: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		// One attempt a line says little more than one line.
		d.fail(strings.Join(strings.Fields(err.Error()), " "), "check DATABASE_URL, the network, and that countersign migrate was run")
		return
	}
	defer pool.Close()
	if !d.examineSchema(ctx, pool) {
		return
	}
	d.examineLogin(ctx, pool)
	d.examinePrivileges(ctx, pool)
	d.examineDatabaseClock(ctx, pool)
	d.examineKeys(ctx, pool)
}

// examineKeys says whether there are keys to encrypt with, and whether they are those that
// the database was written with. It leaves nothing there.
func (d *doctor) examineKeys(ctx context.Context, pool *pgxpool.Pool) {
	box, err := boxOf(d.config, "")
	if err != nil {
		d.fail("there are no usable keys to encrypt results and callbacks with", "name them: encryption: {keyset: file:PATH}; countersign keys encryption makes them")
		return
	}
	switch err := db.CheckKeys(ctx, pool, box); {
	case errors.Is(err, db.ErrKeys):
		d.fail("the keyset of the configuration is not the one that this database was written with", "give it the keyset it had; a key is added with countersign keys encryption --rotate")
	case err != nil:
		d.fail("the keys cannot be checked: "+err.Error(), "")
	default:
		d.ok("results and callbacks are encrypted, under keys that fit the database")
	}
}

func (d *doctor) examineSchema(ctx context.Context, pool *pgxpool.Pool) bool {
	var version int
	var dirty bool
	var server string
	err := pool.QueryRow(ctx, `SELECT version, dirty, current_setting('server_version') FROM schema_migrations`).Scan(&version, &dirty, &server)
	switch {
	case err != nil:
		d.fail("the schema cannot be read: "+err.Error(), "run countersign migrate")
	case dirty:
		d.fail(fmt.Sprintf("a migration to schema %d has failed half-way", version), "run countersign migrate again and read what it says")
	case version < migrations.Latest:
		d.fail(fmt.Sprintf("the schema is at %d, and this build needs %d", version, migrations.Latest), "run countersign migrate")
	case version > migrations.Latest:
		d.warn(fmt.Sprintf("the schema is at %d, newer than the %d of this build", version, migrations.Latest), "a newer build has migrated it")
		return true
	default:
		d.ok(fmt.Sprintf("reachable, Postgres %s, schema %d", server, version))
		return true
	}
	return false
}

// examineLogin says whether the login could do what the service must not be able to: change
// what was recorded.
func (d *doctor) examineLogin(ctx context.Context, pool *pgxpool.Pool) {
	var login string
	var super, owner bool
	err := pool.QueryRow(ctx, `SELECT session_user, r.rolsuper, EXISTS (
			SELECT 1 FROM pg_class c WHERE c.oid = 'audit_events'::regclass AND pg_has_role(session_user, c.relowner, 'member'))
		FROM pg_roles r WHERE r.rolname = session_user`).Scan(&login, &super, &owner)
	switch {
	case err != nil:
		d.fail("the login's powers cannot be read: "+err.Error(), "")
	case super || owner:
		d.warn("the login "+login+" owns the tables or is a superuser", "whoever steals it can rewrite the audit trail; "+
			"give DATABASE_URL a login that is only a member of "+db.AppRole)
	default:
		d.ok("the login " + login + " owns nothing and acts as " + db.AppRole)
	}
}

// privileges are what the service needs, and what it must not have.
var privileges = []struct {
	table, privilege string
	want             bool
}{
	{"audit_events", "INSERT", true},
	{"audit_events", "SELECT", true},
	{"audit_events", "UPDATE", false},
	{"audit_events", "DELETE", false},
	{"audit_events", "TRUNCATE", false},
	{"tickets", "INSERT", true},
	{"tickets", "UPDATE", true},
	{"tickets", "DELETE", false},
	{"calls", "INSERT", true},
	{"calls", "UPDATE", false},
	{"decisions", "INSERT", true},
	{"decisions", "UPDATE", false},
	{"deliveries", "DELETE", false},
	{"callback_endpoints", "UPDATE", true},
	{"callback_endpoints", "DELETE", false},
	{"service_events", "INSERT", true},
	{"service_events", "UPDATE", false},
	{"river_job", "INSERT", true},
	{"river_job", "UPDATE", true},
	{"river_job", "DELETE", true},
	{"slack_inbound", "INSERT", true},
	{"slack_outbox", "INSERT", true},
	{"slack_outbox", "UPDATE", true},
	{"slack_renderings", "INSERT", true},
	{"slack_renderings", "UPDATE", false},
	{"slack_renderings", "DELETE", false},
}

func (d *doctor) examinePrivileges(ctx context.Context, pool *pgxpool.Pool) {
	wrong := 0
	for _, p := range privileges {
		var has bool
		err := pool.QueryRow(ctx, `SELECT has_table_privilege($1, $2, $3)`, db.AppRole, p.table, p.privilege).Scan(&has)
		switch {
		case err != nil:
			d.fail(fmt.Sprintf("whether %s may %s %s cannot be read: %s", db.AppRole, p.privilege, p.table, err), "")
		case has == p.want:
			continue
		case p.want:
			d.fail(fmt.Sprintf("%s may not %s %s", db.AppRole, p.privilege, p.table),
				fmt.Sprintf("GRANT %s ON %s TO %s", p.privilege, p.table, db.AppRole))
		default:
			d.fail(fmt.Sprintf("%s may %s %s, which would change what was recorded", db.AppRole, p.privilege, p.table),
				fmt.Sprintf("REVOKE %s ON %s FROM %s", p.privilege, p.table, db.AppRole))
		}
		wrong++
	}
	if wrong == 0 {
		d.ok(db.AppRole + " has the privileges it needs, and none to change what was recorded")
	}
}

func (d *doctor) examineDatabaseClock(ctx context.Context, pool *pgxpool.Pool) {
	before := d.env.now()
	var theirs time.Time
	if err := pool.QueryRow(ctx, `SELECT clock_timestamp()`, pgx.QueryExecModeSimpleProtocol).Scan(&theirs); err != nil {
		d.fail("the clock cannot be read: "+err.Error(), "")
		return
	}
	after := d.env.now()
	d.skewed("the database's", theirs.Sub(before.Add(after.Sub(before)/2)), "deadlines are judged by the database's, logins by ours")
}

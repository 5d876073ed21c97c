package main

import (
	"cmp"
	"errors"
	"fmt"

	"countersign/db"
)

type migrateCmd struct {
	DatabaseURL string `help:"Postgres to migrate, as a login that may create tables and roles (or $MIGRATE_DATABASE_URL, or $DATABASE_URL)." placeholder:"URL"`
}

// Help is shown below the flags.
func (migrateCmd) Help() string {
	return `Runs the migrations that are missing, River's among them, and creates the role countersign_app,
which owns nothing. In production, migrate as the owner and let the service log in as a
member of that role:

  export MIGRATE_DATABASE_URL=postgres://owner@db/countersign
  countersign migrate
  psql "$MIGRATE_DATABASE_URL" -c "CREATE ROLE gate LOGIN PASSWORD '…' IN ROLE countersign_app"
  DATABASE_URL=postgres://gate@db/countersign  countersign serve --config countersign.yaml

Processes that migrate at the same time wait for each other. Safe to repeat.`
}

func (c migrateCmd) Run(env environment) error {
	c.DatabaseURL = cmp.Or(c.DatabaseURL, env.getenv("MIGRATE_DATABASE_URL"), env.getenv("DATABASE_URL"))
	if c.DatabaseURL == "" {
		return usageError{errors.New("give --database-url, or set MIGRATE_DATABASE_URL or DATABASE_URL")}
	}
	from, to, err := db.Migrate(env.ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	if from == to {
		_, err = fmt.Fprintf(env.stdout, "schema is at version %d, nothing to do\n", to)
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "schema migrated from version %d to %d\n", from, to)
	return err
}

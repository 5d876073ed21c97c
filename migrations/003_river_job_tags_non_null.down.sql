-- River's own migration 3 (github.com/riverqueue/river v0.51.1), run by golang-migrate.
ALTER TABLE river_job
    ALTER COLUMN tags DROP NOT NULL,
    ALTER COLUMN tags DROP DEFAULT;

DELETE FROM river_migration WHERE version = 3;

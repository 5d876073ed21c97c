-- River's own migration 1 (github.com/riverqueue/river v0.51.1), run by golang-migrate.
DROP TABLE river_migration;

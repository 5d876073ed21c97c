-- River's own migration 8 (github.com/riverqueue/river v0.51.1), run by golang-migrate.
-- No-op. Postgres sequences already prevent automatically generated job IDs
-- from being reused.
SELECT 1;

DELETE FROM river_migration WHERE line = 'main' AND version = 8;

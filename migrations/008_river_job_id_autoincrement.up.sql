-- River's own migration 8 (github.com/riverqueue/river v0.51.1), run by golang-migrate.
-- No-op. Postgres sequences already prevent automatically generated job IDs
-- from being reused.
SELECT 1;

INSERT INTO river_migration (line, version) VALUES ('main', 8);

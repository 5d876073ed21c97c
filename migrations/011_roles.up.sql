-- The service acts as countersign_app, which owns nothing: it may add to the audit trail
-- and read it, and can neither change a fact nor switch a guard off. Roles belong to the
-- whole Postgres cluster, so this one may exist already.
DO $$
BEGIN
    CREATE ROLE countersign_app NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;

-- Before Postgres 15 everybody could create things here, and so stand in for ours.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO countersign_app;
GRANT SELECT, INSERT ON audit_events, calls, decisions, results, delivery_attempts, instance_secrets TO countersign_app;
GRANT SELECT, INSERT, UPDATE ON tickets TO countersign_app;
GRANT SELECT, INSERT ON deliveries, cards TO countersign_app;
GRANT UPDATE (state, attempts, next_attempt_at) ON deliveries TO countersign_app;
GRANT UPDATE (posted_to, ts, shown) ON cards TO countersign_app;
GRANT SELECT, INSERT, DELETE ON idempotency_keys, slack_inbound TO countersign_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO countersign_app;
GRANT SELECT ON schema_migrations, river_migration TO countersign_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON river_job, river_leader, river_queue, river_notification TO countersign_app;
GRANT USAGE, SELECT ON SEQUENCE river_job_id_seq, river_notification_id_seq TO countersign_app;

-- The wire: callback endpoints with a health of their own, deliveries that are claimed, calls
-- to one upstream that are counted, results that are encrypted, and events in the order in
-- which they can be seen.
DO $$
BEGIN
    IF EXISTS (SELECT FROM workers WHERE heartbeat_at > clock_timestamp() - interval '10 seconds') THEN
        RAISE EXCEPTION 'processes of the version before are at work: stop them all, wait ten seconds, and migrate then'
            USING ERRCODE = 'object_in_use', HINT = 'From here on results and callbacks are stored encrypted, and they would send empty ones.';
    END IF;
END $$;

BEGIN;
LOCK TABLE tickets, calls, audit_events, deliveries, delivery_attempts, results IN ACCESS EXCLUSIVE MODE;

-- Without a default at first: one that is not constant would have every row written again.
ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS tx bigint;
ALTER TABLE audit_events ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint;
COMMENT ON COLUMN audit_events.tx IS 'The transaction that wrote it, for streams: whoever has read all below an xmin has missed nothing. Null for older ones. No part of the evidence.';

ALTER TABLE audit_events
    DROP CONSTRAINT IF EXISTS audit_events_type_check,
    ADD CONSTRAINT audit_events_type_check CHECK (type IN (
        'ticket.created', 'ticket.notified', 'ticket.viewed', 'ticket.decided', 'ticket.glass_broken', 'ticket.stage_completed',
        'ticket.approved', 'ticket.denied', 'ticket.question_asked', 'ticket.answered', 'ticket.reminded',
        'ticket.escalated', 'ticket.stalled', 'ticket.unstalled', 'ticket.expired', 'ticket.cancelled',
        'ticket.cancel_requested', 'ticket.claimed', 'ticket.claim_released', 'ticket.released', 'ticket.reopened',
        'ticket.tightened', 'ticket.executing', 'ticket.succeeded', 'ticket.failed', 'ticket.outcome_unknown',
        'ticket.resolved', 'ticket.refused', 'ticket.callback_delivered', 'ticket.callback_failed',
        'ticket.callback_exhausted', 'ticket.redelivery_requested')) NOT VALID;

ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS callback_payload text NOT NULL DEFAULT '',
    DROP CONSTRAINT IF EXISTS calls_callback_payload_check;
ALTER TABLE calls ADD CONSTRAINT calls_callback_payload_check CHECK (callback_payload IN ('', 'full', 'thin')) NOT VALID;
COMMENT ON COLUMN calls.callback_payload IS 'How much of a result its callbacks carry: empty for what is small, full, or thin for nothing of it.';

ALTER TABLE results ADD COLUMN IF NOT EXISTS sealed bytea;
COMMENT ON COLUMN results.sealed IS 'Header fields and body, encrypted under a key that the database does not hold; headers and body are empty then. Null in older rows.';

ALTER TABLE deliveries
    ADD COLUMN IF NOT EXISTS endpoint_id text,
    ADD COLUMN IF NOT EXISTS sealed bytea,
    ADD COLUMN IF NOT EXISTS trigger text NOT NULL DEFAULT 'auto',
    ADD COLUMN IF NOT EXISTS claimed_by text,
    ADD COLUMN IF NOT EXISTS claimed_until timestamptz,
    DROP CONSTRAINT IF EXISTS deliveries_trigger_check,
    DROP CONSTRAINT IF EXISTS claim_has_an_end,
    DROP CONSTRAINT IF EXISTS claimed_is_pending;
ALTER TABLE deliveries
    ADD CONSTRAINT deliveries_trigger_check CHECK (trigger IN ('auto', 'manual')) NOT VALID,
    ADD CONSTRAINT claim_has_an_end CHECK ((claimed_by IS NULL) = (claimed_until IS NULL)) NOT VALID,
    ADD CONSTRAINT claimed_is_pending CHECK (claimed_by IS NULL OR state = 'pending') NOT VALID;
COMMENT ON COLUMN deliveries.endpoint_id IS 'The endpoint it goes to; null in older rows, until they are claimed.';
COMMENT ON COLUMN deliveries.sealed IS 'The payload, encrypted under a key that the database does not hold; payload is empty then.';
COMMENT ON COLUMN deliveries.trigger IS 'Why the next attempt is made: by the schedule, or because somebody asked.';
COMMENT ON COLUMN deliveries.claimed_by IS 'The worker that is sending it, until claimed_until; null: nobody.';

ALTER TABLE delivery_attempts
    ADD COLUMN IF NOT EXISTS trigger text NOT NULL DEFAULT 'auto',
    ADD COLUMN IF NOT EXISTS class text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS address text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS dns_ms bigint,
    ADD COLUMN IF NOT EXISTS connect_ms bigint,
    ADD COLUMN IF NOT EXISTS tls_ms bigint,
    ADD COLUMN IF NOT EXISTS first_byte_ms bigint,
    ADD COLUMN IF NOT EXISTS snippet bytea;
COMMENT ON COLUMN delivery_attempts.class IS 'What kind of failure it was, such as dns, tls, timeout or status; empty for none.';
COMMENT ON COLUMN delivery_attempts.address IS 'The address that was connected to; empty for none. Not for callers.';
COMMENT ON COLUMN delivery_attempts.snippet IS 'The beginning of the answer, of verified endpoints only, encrypted under a key that the database does not hold.';
COMMIT;

BEGIN;
CREATE TABLE IF NOT EXISTS callback_endpoints (
    id            text COLLATE "C" PRIMARY KEY CHECK (id ~ '^end_[0-9a-hjkmnp-tv-z]{26}$'),
    caller        text NOT NULL,
    origin        text NOT NULL,
    probe_url     text NOT NULL DEFAULT '',
    verification  text NOT NULL DEFAULT 'unverified' CHECK (verification IN ('unverified', 'verified', 'waived')),
    verified_at   timestamptz,
    verified_how  text NOT NULL DEFAULT '' CHECK (verified_how IN ('', 'challenge', 'cloudevents')),
    verify_tries  integer NOT NULL DEFAULT 0,
    verify_due_at timestamptz,
    verify_asked_at timestamptz,
    verify_error  text NOT NULL DEFAULT '',
    allowed_rate  integer CHECK (allowed_rate > 0),
    disabled_at   timestamptz,
    disabled_by   text NOT NULL DEFAULT '',
    disabled_why  text NOT NULL DEFAULT '',
    held_until    timestamptz,
    health        jsonb NOT NULL DEFAULT '{}',
    failing_since timestamptz,
    failures      integer NOT NULL DEFAULT 0,
    succeeded_at  timestamptz,
    failed_at     timestamptz,
    alerted_at    timestamptz,
    dead_letter_at timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (caller, origin),
    CONSTRAINT verified_has_its_hour CHECK ((verification = 'verified') = (verified_at IS NOT NULL)),
    CONSTRAINT disabled_for_a_reason CHECK ((disabled_at IS NULL) = (disabled_why = ''))
);
COMMENT ON TABLE callback_endpoints IS 'One allowed origin of one caller''s callbacks, and how it is doing. It is never deleted; one that the configuration does not name any more is sent nothing.';
COMMENT ON COLUMN callback_endpoints.probe_url IS 'Where it is asked whether it wants callbacks: the configured address, else the first one that a submit named.';
COMMENT ON COLUMN callback_endpoints.verify_due_at IS 'When it is asked next by itself; null: not.';
COMMENT ON COLUMN callback_endpoints.verify_asked_at IS 'When it was last asked in vain; null: never.';
COMMENT ON COLUMN callback_endpoints.allowed_rate IS 'Messages a minute that it said it takes; null: it did not say.';
COMMENT ON COLUMN callback_endpoints.held_until IS 'It asked to be left alone until then.';
COMMENT ON COLUMN callback_endpoints.health IS 'Circuit breaker and token bucket, as package health has them.';
COMMENT ON COLUMN callback_endpoints.failing_since IS 'When the failures in a row began; null: the last attempt was well.';
COMMENT ON COLUMN callback_endpoints.alerted_at IS 'When people were last told about it.';
COMMENT ON COLUMN callback_endpoints.dead_letter_at IS 'When a delivery was given up, the first of those of which people have yet to be told; null: none.';

CREATE TABLE IF NOT EXISTS upstream_lanes (
    name       text PRIMARY KEY,
    health     jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE upstream_lanes IS 'What all processes together know of an upstream, or a caller, with limits: circuit breaker and token bucket, as package health has them. Locked while a call is admitted.';
COMMENT ON COLUMN upstream_lanes.name IS 'upstream/ or caller/ and its name.';

CREATE TABLE IF NOT EXISTS lane_waiting (
    ticket_id text COLLATE "C" PRIMARY KEY,
    lane      text NOT NULL,
    caller    text NOT NULL,
    since     timestamptz NOT NULL,
    until     timestamptz NOT NULL
);
COMMENT ON TABLE lane_waiting IS 'Calls that are ready to be made and for which a lane had no room. It is a list of whom to wake and no more: a row too many or too few does no harm.';
COMMENT ON COLUMN lane_waiting.lane IS 'The lane that had no room.';
COMMENT ON COLUMN lane_waiting.since IS 'When the ticket was approved.';
COMMENT ON COLUMN lane_waiting.until IS 'When its time to execute is over, and it is woken whether there is room or not.';
CREATE INDEX IF NOT EXISTS lane_waiting_order ON lane_waiting (lane, caller, since);

CREATE TABLE IF NOT EXISTS service_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    stream     text NOT NULL CHECK (length(stream) BETWEEN 1 AND 200),
    type       text NOT NULL CHECK (length(type) BETWEEN 1 AND 100),
    actor_kind text NOT NULL,
    actor_name text NOT NULL,
    actor_via  text NOT NULL,
    data       jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE service_events IS 'Append-only: what happened that belongs to no ticket, such as an endpoint that was verified, disabled or enabled, and who did it.';
COMMENT ON COLUMN service_events.stream IS 'What it is about, such as endpoint/end_….';
CREATE INDEX IF NOT EXISTS service_events_stream ON service_events (stream, id);

CREATE TABLE IF NOT EXISTS encryption_check (
    id     integer PRIMARY KEY CHECK (id = 1),
    sealed bytea NOT NULL
);
COMMENT ON TABLE encryption_check IS 'A known text, encrypted at the first start: a process with other keys is told so before it takes work that it could not read.';
COMMIT;

-- What is pending is little; the others hold up submits for about a second a million.
BEGIN;
CREATE INDEX IF NOT EXISTS deliveries_owed ON deliveries (endpoint_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_claimed ON deliveries (endpoint_id, claimed_until) WHERE claimed_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_of_endpoint ON deliveries (endpoint_id, created_at DESC);
CREATE INDEX IF NOT EXISTS tickets_unfinished ON tickets (caller) WHERE finished_at IS NULL;
CREATE INDEX IF NOT EXISTS tickets_claimed ON tickets (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS audit_events_tx ON audit_events USING brin (tx) WITH (pages_per_range = 16, autosummarize = on);
COMMIT;

BEGIN;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'no_change' AND tgrelid = 'service_events'::regclass) THEN
        CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON service_events FOR EACH ROW EXECUTE FUNCTION refuse_change();
        CREATE TRIGGER no_truncate BEFORE TRUNCATE ON service_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    END IF;
END $$;
GRANT UPDATE (endpoint_id, trigger, claimed_by, claimed_until) ON deliveries TO countersign_app;
GRANT SELECT, INSERT, UPDATE ON callback_endpoints, upstream_lanes TO countersign_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON lane_waiting TO countersign_app;
GRANT SELECT, INSERT ON service_events, encryption_check TO countersign_app;
COMMIT;

ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_type_check;
ALTER TABLE calls VALIDATE CONSTRAINT calls_callback_payload_check;
ALTER TABLE deliveries
    VALIDATE CONSTRAINT deliveries_trigger_check,
    VALIDATE CONSTRAINT claim_has_an_end,
    VALIDATE CONSTRAINT claimed_is_pending;

-- Tickets, what they carry, and their audit trail. Postgres holds the invariants: a state
-- without its timestamp, a change without its event, a second vote or an edited fact
-- cannot be committed, whoever writes.

CREATE TABLE audit_events (
    ticket_id  text COLLATE "C" NOT NULL,
    seq        bigint NOT NULL CHECK (seq >= 1),
    type       text NOT NULL CHECK (type IN (
        'ticket.created', 'ticket.notified', 'ticket.decided', 'ticket.stage_completed', 'ticket.approved',
        'ticket.denied', 'ticket.question_asked', 'ticket.answered', 'ticket.reminded', 'ticket.escalated',
        'ticket.expired', 'ticket.cancelled', 'ticket.cancel_requested', 'ticket.claimed',
        'ticket.claim_released', 'ticket.reopened', 'ticket.executing', 'ticket.succeeded', 'ticket.failed',
        'ticket.outcome_unknown', 'ticket.resolved', 'ticket.refused', 'ticket.callback_delivered',
        'ticket.callback_failed', 'ticket.callback_exhausted')),
    at         timestamptz NOT NULL,
    actor_kind text NOT NULL,
    actor_name text NOT NULL,
    actor_via  text NOT NULL,
    actor_ref  text NOT NULL,
    state      text NOT NULL,
    data       jsonb NOT NULL,
    canon      bytea NOT NULL,
    prev_hash  bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (ticket_id, seq)
);
COMMENT ON TABLE audit_events IS 'Append-only audit trail: one row per past fact, hash-chained per ticket. canon holds the exact bytes that were hashed; the other columns are projections of it.';
CREATE INDEX audit_events_at_idx ON audit_events (at);

CREATE TABLE tickets (
    id             text COLLATE "C" PRIMARY KEY CHECK (id ~ '^tkt_[0-9a-hjkmnp-tv-z]{26}$'),
    version        bigint NOT NULL CHECK (version >= 1),
    state          text NOT NULL CONSTRAINT tickets_state_check CHECK (state IN (
        'pending', 'needs_info', 'approved', 'executing', 'succeeded', 'failed', 'outcome_unknown',
        'denied', 'expired', 'cancelled')),
    caller         text NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL CHECK (expires_at > created_at),
    stage          integer NOT NULL CHECK (stage >= 0),
    stage_since    timestamptz NOT NULL,
    paused_us      bigint NOT NULL CHECK (paused_us >= 0),
    tiers          integer[] NOT NULL,
    reminders      integer NOT NULL CHECK (reminders >= 0),
    wake_at        timestamptz,
    question       jsonb,
    approved_at    timestamptz,
    execute_by     timestamptz,
    epoch          bigint NOT NULL CHECK (epoch >= 0),
    claimed_by     text CHECK (claimed_by <> ''),
    execution_started_at timestamptz,
    finished_at    timestamptz,
    cancel_requested_at timestamptz,
    result         jsonb,
    problem        jsonb,
    callback_state text NOT NULL CHECK (callback_state IN ('none', 'pending', 'delivered', 'exhausted')),
    callback_seq   bigint NOT NULL CHECK (callback_seq >= 0),
    refusals       integer NOT NULL CHECK (refusals >= 0),
    head_hash      bytea NOT NULL CHECK (octet_length(head_hash) = 32),

    -- No state without the times that prove how it was reached.
    CONSTRAINT final_has_finished CHECK ((finished_at IS NOT NULL) =
        (state IN ('succeeded', 'failed', 'outcome_unknown', 'denied', 'expired', 'cancelled'))),
    CONSTRAINT approval_is_whole CHECK ((approved_at IS NULL) = (execute_by IS NULL)),
    CONSTRAINT approved_first CHECK (approved_at IS NOT NULL
        OR state NOT IN ('approved', 'executing', 'succeeded', 'failed', 'outcome_unknown')),
    CONSTRAINT started_first CHECK (execution_started_at IS NOT NULL
        OR state NOT IN ('executing', 'succeeded', 'outcome_unknown')),
    CONSTRAINT open_is_undecided CHECK (approved_at IS NULL OR state NOT IN ('pending', 'needs_info', 'denied')),
    CONSTRAINT waiting_has_a_timer CHECK ((wake_at IS NOT NULL) = (state IN ('pending', 'needs_info', 'approved'))),
    CONSTRAINT question_is_open CHECK (state <> 'needs_info' OR question IS NOT NULL),
    CONSTRAINT claim_is_in_force CHECK (claimed_by IS NULL OR (state IN ('approved', 'executing') AND epoch >= 1)),
    CONSTRAINT answer_is_final CHECK (result IS NULL OR state IN ('succeeded', 'failed')),

    -- No version without its event: checked at commit, so the two may be written in any order.
    CONSTRAINT version_has_its_event FOREIGN KEY (id, version)
        REFERENCES audit_events (ticket_id, seq) DEFERRABLE INITIALLY DEFERRED
) WITH (fillfactor = 85);
COMMENT ON TABLE tickets IS 'One privileged call and its life: the present state. Written only by the service; every change is a version with its row in audit_events.';
CREATE INDEX tickets_caller_idx ON tickets (caller, created_at DESC, id DESC);
CREATE INDEX tickets_wake_idx ON tickets (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX tickets_in_flight_idx ON tickets (updated_at) WHERE state IN ('approved', 'executing');

CREATE TABLE calls (
    ticket_id       text COLLATE "C" PRIMARY KEY REFERENCES tickets (id),
    upstream        text NOT NULL,
    method          text NOT NULL,
    path            text NOT NULL,
    query           text NOT NULL,
    headers         jsonb NOT NULL,
    body            bytea NOT NULL,
    digest          text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    on_behalf_of    text NOT NULL,
    justification   text NOT NULL,
    metadata        jsonb NOT NULL,
    callback_url    text,
    callback_events text[] NOT NULL,
    plan            jsonb NOT NULL
);
COMMENT ON TABLE calls IS 'The call a ticket carries and the plan it must meet, frozen at submit.';

CREATE TABLE decisions (
    ticket_id  text COLLATE "C" NOT NULL REFERENCES tickets (id),
    person     text NOT NULL,
    seq        bigint NOT NULL,
    stage      integer NOT NULL CHECK (stage >= 0),
    verdict    text NOT NULL CHECK (verdict IN ('approve', 'deny')),
    comment    text NOT NULL,
    digest     text NOT NULL,
    groups     text[] NOT NULL,
    via        text NOT NULL,
    ref        text NOT NULL,
    message_ts text NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (ticket_id, person), -- one person counts once
    FOREIGN KEY (ticket_id, seq) REFERENCES audit_events (ticket_id, seq) DEFERRABLE INITIALLY DEFERRED
);
COMMENT ON TABLE decisions IS 'Who said yes or no to what, one row a person and ticket.';
COMMENT ON COLUMN decisions.stage IS 'Counted from 0; cards and the API count from 1.';
COMMENT ON COLUMN decisions.seq IS 'The event in audit_events that recorded it.';
COMMENT ON COLUMN audit_events.data IS 'The facts of the event; stages in it are counted from 0.';
COMMENT ON COLUMN tickets.stage IS 'The current stage, counted from 0; cards and the API count from 1.';

CREATE TABLE results (
    ticket_id   text COLLATE "C" NOT NULL REFERENCES tickets (id),
    seq         bigint NOT NULL,
    status      integer NOT NULL,
    headers     jsonb NOT NULL,
    body        bytea NOT NULL,
    size        bigint NOT NULL,
    digest      text NOT NULL,
    truncated   boolean NOT NULL,
    duration_ms bigint NOT NULL,
    executed_at timestamptz NOT NULL,
    PRIMARY KEY (ticket_id, seq),
    FOREIGN KEY (ticket_id, seq) REFERENCES audit_events (ticket_id, seq) DEFERRABLE INITIALLY DEFERRED
);
COMMENT ON TABLE results IS 'What upstream answered.';

CREATE TABLE idempotency_keys (
    caller      text NOT NULL,
    route       text NOT NULL,
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    ticket_id   text COLLATE "C" NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (caller, route, key),
    FOREIGN KEY (ticket_id) REFERENCES tickets (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX idempotency_keys_created_idx ON idempotency_keys USING brin (created_at);
COMMENT ON TABLE idempotency_keys IS 'Which ticket a caller''s Idempotency-Key stands for.';

CREATE TABLE deliveries (
    ticket_id       text COLLATE "C" NOT NULL REFERENCES tickets (id),
    seq             bigint NOT NULL,
    message_id      text NOT NULL UNIQUE CHECK (message_id ~ '^msg_[0-9a-hjkmnp-tv-z]{26}$'),
    event_type      text NOT NULL,
    url             text NOT NULL,
    payload         bytea NOT NULL,
    state           text NOT NULL CHECK (state IN ('pending', 'delivered', 'exhausted')),
    attempts        integer NOT NULL CHECK (attempts >= 0),
    next_attempt_at timestamptz,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (ticket_id, seq),
    CONSTRAINT pending_is_due CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    FOREIGN KEY (ticket_id, seq) REFERENCES audit_events (ticket_id, seq) DEFERRABLE INITIALLY DEFERRED
);
COMMENT ON TABLE deliveries IS 'Callbacks owed to callers. payload holds the bytes that every attempt sends and signs.';
CREATE INDEX deliveries_due_idx ON deliveries (next_attempt_at) WHERE state = 'pending';

CREATE TABLE delivery_attempts (
    ticket_id   text COLLATE "C" NOT NULL,
    seq         bigint NOT NULL,
    number      integer NOT NULL CHECK (number >= 1),
    at          timestamptz NOT NULL,
    status      integer NOT NULL,
    error       text NOT NULL,
    duration_ms bigint NOT NULL,
    next_at     timestamptz,
    PRIMARY KEY (ticket_id, seq, number),
    FOREIGN KEY (ticket_id, seq) REFERENCES deliveries (ticket_id, seq)
);
COMMENT ON TABLE delivery_attempts IS 'Every try to post a callback and what came of it.';

CREATE TABLE cards (
    handle     text PRIMARY KEY CHECK (handle ~ '^h_[0-9a-f]{32}$'),
    ticket_id  text COLLATE "C" NOT NULL REFERENCES tickets (id),
    stage      integer NOT NULL,
    channel    text NOT NULL,
    digest     text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    posted_to  text NOT NULL DEFAULT '',
    ts         text NOT NULL DEFAULT '',
    shown      bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (ticket_id, stage, channel)
);
COMMENT ON TABLE cards IS 'Where a stage was shown in Slack. Buttons carry only the handle; shown is the ticket version last rendered.';

CREATE TABLE slack_inbound (
    replay_key text PRIMARY KEY CHECK (length(replay_key) = 64),
    at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE slack_inbound IS 'Signatures of Slack requests already taken, so that a replay has no effect.';
CREATE INDEX slack_inbound_at_idx ON slack_inbound (at);

CREATE TABLE workers (
    id           text PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE workers IS 'Processes that may hold a claim; a stale heartbeat frees what they held.';

CREATE TABLE instance_secrets (
    name  text PRIMARY KEY,
    value bytea NOT NULL CHECK (octet_length(value) = 32)
);
COMMENT ON TABLE instance_secrets IS 'Random keys shared by all processes, for values that give no authority, such as page tokens.';

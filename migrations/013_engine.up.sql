-- What the approval engine has learned: calls that wait for their hour, tickets that take
-- another's place, plans that grow stricter, votes in somebody's place, and broken glass.
--
-- The step is several transactions, so that none holds up the service for as long as a
-- table takes to read: constraints come unproven, in a moment, and are proven afterwards.
-- Every part may be run again, should a later one have failed.

BEGIN;
-- In the order in which the service takes them.
LOCK TABLE tickets, calls, audit_events, decisions IN ACCESS EXCLUSIVE MODE;

ALTER TABLE tickets
    ADD COLUMN IF NOT EXISTS paused_hours_us bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS questions integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS stalled jsonb,
    ADD COLUMN IF NOT EXISTS released_at timestamptz,
    ADD COLUMN IF NOT EXISTS superseded_by text COLLATE "C",
    ADD COLUMN IF NOT EXISTS amended_plan jsonb,
    DROP CONSTRAINT IF EXISTS tickets_paused_hours_us_check,
    DROP CONSTRAINT IF EXISTS tickets_questions_check,
    DROP CONSTRAINT IF EXISTS stalled_is_open,
    DROP CONSTRAINT IF EXISTS superseded_is_cancelled,
    DROP CONSTRAINT IF EXISTS superseded_by_another,
    DROP CONSTRAINT IF EXISTS tickets_superseded_by_fkey;
ALTER TABLE tickets
    ADD CONSTRAINT tickets_paused_hours_us_check CHECK (paused_hours_us >= 0) NOT VALID,
    ADD CONSTRAINT tickets_questions_check CHECK (questions >= 0) NOT VALID,
    ADD CONSTRAINT stalled_is_open CHECK (stalled IS NULL OR state IN ('pending', 'needs_info')) NOT VALID,
    ADD CONSTRAINT superseded_is_cancelled CHECK (superseded_by IS NULL OR state = 'cancelled') NOT VALID,
    ADD CONSTRAINT superseded_by_another CHECK (superseded_by <> id) NOT VALID,
    ADD CONSTRAINT tickets_superseded_by_fkey FOREIGN KEY (superseded_by) REFERENCES tickets (id) NOT VALID;
COMMENT ON COLUMN tickets.paused_us IS 'How long questions have held up the timers of the current stage, by the clock on the wall.';
COMMENT ON COLUMN tickets.paused_hours_us IS 'The part of paused_us within the hours of work of the current stage.';
COMMENT ON COLUMN tickets.questions IS 'How many questions have been asked so far.';
COMMENT ON COLUMN tickets.stalled IS 'Why nobody can complete the ticket as things stand, and since when; null when somebody can.';
COMMENT ON COLUMN tickets.released_at IS 'When calls.not_before was found to have come; null until then, and where there is none.';
COMMENT ON COLUMN tickets.superseded_by IS 'The ticket that took the place of this one.';
COMMENT ON COLUMN tickets.amended_plan IS 'The plan in force once an escalation has asked others or a stricter policy has added stages; null while it is calls.plan.';

ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS not_before timestamptz,
    ADD COLUMN IF NOT EXISTS supersedes text COLLATE "C";
COMMENT ON COLUMN calls.plan IS 'The plan as frozen at submit; tickets.amended_plan takes its place once it is set.';
COMMENT ON COLUMN calls.not_before IS 'When the call may be made at the earliest; null: as soon as it is approved.';
COMMENT ON COLUMN calls.supersedes IS 'The ticket of the same caller whose place this one took; that one names this one in superseded_by.';

-- Two tickets are linked from both ends or not at all, and only by their one caller.
CREATE OR REPLACE FUNCTION guard_supersedes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tickets it JOIN tickets by ON by.id = it.superseded_by AND by.caller = it.caller
        WHERE it.id = NEW.supersedes AND by.id = NEW.ticket_id) THEN
        RAISE EXCEPTION 'ticket % does not supersede %: that one says otherwise', NEW.ticket_id, NEW.supersedes
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS supersedes ON calls;
CREATE CONSTRAINT TRIGGER supersedes AFTER INSERT ON calls DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.supersedes IS NOT NULL) EXECUTE FUNCTION guard_supersedes();

ALTER TABLE audit_events
    DROP CONSTRAINT IF EXISTS audit_events_type_check,
    ADD CONSTRAINT audit_events_type_check CHECK (type IN (
        'ticket.created', 'ticket.notified', 'ticket.decided', 'ticket.glass_broken', 'ticket.stage_completed',
        'ticket.approved', 'ticket.denied', 'ticket.question_asked', 'ticket.answered', 'ticket.reminded',
        'ticket.escalated', 'ticket.stalled', 'ticket.unstalled', 'ticket.expired', 'ticket.cancelled',
        'ticket.cancel_requested', 'ticket.claimed', 'ticket.claim_released', 'ticket.released', 'ticket.reopened',
        'ticket.tightened', 'ticket.executing', 'ticket.succeeded', 'ticket.failed', 'ticket.outcome_unknown',
        'ticket.resolved', 'ticket.refused', 'ticket.callback_delivered', 'ticket.callback_failed',
        'ticket.callback_exhausted')) NOT VALID;

ALTER TABLE decisions
    ADD COLUMN IF NOT EXISTS in_place_of text NOT NULL DEFAULT '',
    DROP CONSTRAINT IF EXISTS decisions_verdict_check,
    DROP CONSTRAINT IF EXISTS decisions_in_place_of_check,
    DROP CONSTRAINT IF EXISTS glass_is_broken_in_the_open;
ALTER TABLE decisions
    ADD CONSTRAINT decisions_verdict_check CHECK (verdict IN ('approve', 'deny', 'break_glass')) NOT VALID,
    ADD CONSTRAINT decisions_in_place_of_check CHECK (in_place_of <> person) NOT VALID,
    ADD CONSTRAINT glass_is_broken_in_the_open CHECK (verdict <> 'break_glass' OR (comment <> '' AND in_place_of = '')) NOT VALID;
COMMENT ON TABLE decisions IS 'Who said yes or no to what, or bypassed everybody.';
COMMENT ON COLUMN decisions.verdict IS 'break_glass is a yes that bypasses all stages; it is nobody''s vote in one.';
COMMENT ON COLUMN decisions.in_place_of IS 'The absent person whose place the vote takes, and whose vote it uses up; empty for the person''s own.';
COMMIT;

-- Votes wait for these to be built, about a second for a million decisions; reading does not.
BEGIN;
CREATE UNIQUE INDEX IF NOT EXISTS decisions_one_vote_a_person ON decisions (ticket_id, stage, person)
    WHERE verdict <> 'break_glass';
CREATE UNIQUE INDEX IF NOT EXISTS decisions_one_vote_a_place ON decisions (ticket_id, stage, coalesce(nullif(in_place_of, ''), person))
    WHERE verdict <> 'break_glass';
CREATE UNIQUE INDEX IF NOT EXISTS decisions_seq ON decisions (ticket_id, seq);
COMMIT;

BEGIN;
-- Whether a person has one vote a ticket or one a stage is the plan's to say.
ALTER TABLE decisions DROP CONSTRAINT decisions_pkey, ADD CONSTRAINT decisions_pkey PRIMARY KEY USING INDEX decisions_seq;
COMMIT;

-- Tickets from before are to be the fold of their events as well. The trail is read first,
-- so that tickets wait only while the few of them that were asked about are written; their
-- guard, which asks for a new version, is off for nobody else meanwhile.
BEGIN;
CREATE TEMPORARY TABLE asked ON COMMIT DROP AS
    SELECT ticket_id, count(*)::integer AS times FROM audit_events WHERE type = 'ticket.question_asked' GROUP BY ticket_id;
ALTER TABLE tickets DISABLE TRIGGER guard;
UPDATE tickets SET questions = times, paused_hours_us = paused_us FROM asked WHERE id = ticket_id AND questions = 0;
ALTER TABLE tickets ENABLE TRIGGER guard;
COMMIT;

-- What was true before stays true; this reads the tables and holds up nobody.
ALTER TABLE tickets
    VALIDATE CONSTRAINT tickets_paused_hours_us_check,
    VALIDATE CONSTRAINT tickets_questions_check,
    VALIDATE CONSTRAINT stalled_is_open,
    VALIDATE CONSTRAINT superseded_is_cancelled,
    VALIDATE CONSTRAINT superseded_by_another,
    VALIDATE CONSTRAINT tickets_superseded_by_fkey;
ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_type_check;
ALTER TABLE decisions
    VALIDATE CONSTRAINT decisions_verdict_check,
    VALIDATE CONSTRAINT decisions_in_place_of_check,
    VALIDATE CONSTRAINT glass_is_broken_in_the_open;

-- Refused, and nothing changed, where there are facts that the schema before cannot hold:
-- events, verdicts and second votes of the new kinds, by its constraints; by this, a ticket
-- in flight whose call would be made too early or by a weaker plan.
DO $$
BEGIN
    IF EXISTS (SELECT FROM tickets JOIN calls ON ticket_id = id
        WHERE finished_at IS NULL AND (not_before IS NOT NULL OR amended_plan IS NOT NULL)) THEN
        RAISE EXCEPTION 'tickets in flight wait for their hour, or have a plan that was amended; they have to end first'
            USING ERRCODE = 'restrict_violation';
    END IF;
END $$;

ALTER TABLE decisions
    DROP CONSTRAINT decisions_pkey,
    ADD CONSTRAINT decisions_pkey PRIMARY KEY (ticket_id, person),
    DROP CONSTRAINT glass_is_broken_in_the_open,
    DROP CONSTRAINT decisions_verdict_check,
    ADD CONSTRAINT decisions_verdict_check CHECK (verdict IN ('approve', 'deny'));
DROP INDEX decisions_one_vote_a_person, decisions_one_vote_a_place;
ALTER TABLE decisions DROP COLUMN in_place_of;
COMMENT ON TABLE decisions IS 'Who said yes or no to what, one row a person and ticket.';

ALTER TABLE audit_events
    DROP CONSTRAINT audit_events_type_check,
    ADD CONSTRAINT audit_events_type_check CHECK (type IN (
        'ticket.created', 'ticket.notified', 'ticket.decided', 'ticket.stage_completed', 'ticket.approved',
        'ticket.denied', 'ticket.question_asked', 'ticket.answered', 'ticket.reminded', 'ticket.escalated',
        'ticket.expired', 'ticket.cancelled', 'ticket.cancel_requested', 'ticket.claimed',
        'ticket.claim_released', 'ticket.reopened', 'ticket.executing', 'ticket.succeeded', 'ticket.failed',
        'ticket.outcome_unknown', 'ticket.resolved', 'ticket.refused', 'ticket.callback_delivered',
        'ticket.callback_failed', 'ticket.callback_exhausted'));

DROP TRIGGER supersedes ON calls;
DROP FUNCTION guard_supersedes();
ALTER TABLE calls DROP COLUMN not_before, DROP COLUMN supersedes;
ALTER TABLE tickets
    DROP COLUMN paused_hours_us, DROP COLUMN questions, DROP COLUMN stalled, DROP COLUMN released_at,
    DROP COLUMN superseded_by, DROP COLUMN amended_plan;
COMMENT ON COLUMN tickets.paused_us IS NULL;
COMMENT ON COLUMN calls.plan IS NULL;
COMMENT ON COLUMN decisions.verdict IS NULL;

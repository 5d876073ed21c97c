-- Refused, and nothing changed, where there are facts that the schema before cannot hold:
-- a ticket.viewed, or what somebody was shown when they decided.
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit_events WHERE type = 'ticket.viewed') OR EXISTS (SELECT FROM decisions WHERE rendered <> '') THEN
        RAISE EXCEPTION 'there are views and decisions on record that only this schema can hold' USING ERRCODE = 'restrict_violation';
    END IF;
END $$;
ALTER TABLE audit_events
    DROP CONSTRAINT audit_events_type_check,
    ADD CONSTRAINT audit_events_type_check CHECK (type IN (
        'ticket.created', 'ticket.notified', 'ticket.decided', 'ticket.glass_broken', 'ticket.stage_completed',
        'ticket.approved', 'ticket.denied', 'ticket.question_asked', 'ticket.answered', 'ticket.reminded',
        'ticket.escalated', 'ticket.stalled', 'ticket.unstalled', 'ticket.expired', 'ticket.cancelled',
        'ticket.cancel_requested', 'ticket.claimed', 'ticket.claim_released', 'ticket.released', 'ticket.reopened',
        'ticket.tightened', 'ticket.executing', 'ticket.succeeded', 'ticket.failed', 'ticket.outcome_unknown',
        'ticket.resolved', 'ticket.refused', 'ticket.callback_delivered', 'ticket.callback_failed',
        'ticket.callback_exhausted'));
ALTER TABLE decisions DROP COLUMN channel, DROP COLUMN rendered;
ALTER TABLE tickets DROP COLUMN viewers;
DROP TABLE slack_state, slack_tokens, slack_channels, slack_groups, slack_users, slack_homes, slack_reviews, slack_renderings,
    slack_outbox, card_copies;
DROP INDEX cards_owed, cards_place, slack_inbound_received, calls_on_behalf_of;
REVOKE UPDATE (desired, rendered, attempts, due_at, lease_until, frozen, channel) ON cards FROM countersign_app;
REVOKE UPDATE ON slack_inbound FROM countersign_app;
DELETE FROM cards WHERE kind <> 'card';
ALTER TABLE cards DROP COLUMN kind, DROP COLUMN slack_user, DROP COLUMN desired, DROP COLUMN rendered, DROP COLUMN attempts,
    DROP COLUMN due_at, DROP COLUMN lease_until, DROP COLUMN frozen;
ALTER TABLE slack_inbound DROP COLUMN kind, DROP COLUMN transport, DROP COLUMN body, DROP COLUMN state, DROP COLUMN attempts,
    DROP COLUMN lease_until, DROP COLUMN done_at, DROP COLUMN outcome;
COMMENT ON TABLE cards IS 'Where a stage was shown in Slack. Buttons carry only the handle; shown is the ticket version last rendered.';
COMMENT ON TABLE slack_inbound IS 'Signatures of Slack requests already taken, so that a replay has no effect.';

-- Slack as a place that can be away, doubtful or lied to: what came from it is kept until it
-- is dealt with, what goes to it is owed until it is there, what people were shown is kept
-- byte by byte, and what Slack says of people and groups has a date.
BEGIN;
LOCK TABLE tickets, decisions, audit_events IN ACCESS EXCLUSIVE MODE;

ALTER TABLE tickets ADD COLUMN IF NOT EXISTS viewers jsonb;
COMMENT ON COLUMN tickets.viewers IS 'The people who have been shown the whole call, in the order in which they were; null for nobody.';

ALTER TABLE decisions
    ADD COLUMN IF NOT EXISTS channel text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS rendered text NOT NULL DEFAULT '';
COMMENT ON COLUMN decisions.channel IS 'The Slack conversation it was made in; empty for none.';
COMMENT ON COLUMN decisions.rendered IS 'SHA-256 of what the person was shown, kept in slack_renderings; empty where they were shown nothing of ours.';

ALTER TABLE audit_events
    DROP CONSTRAINT IF EXISTS audit_events_type_check,
    ADD CONSTRAINT audit_events_type_check CHECK (type IN (
        'ticket.created', 'ticket.notified', 'ticket.viewed', 'ticket.decided', 'ticket.glass_broken', 'ticket.stage_completed',
        'ticket.approved', 'ticket.denied', 'ticket.question_asked', 'ticket.answered', 'ticket.reminded',
        'ticket.escalated', 'ticket.stalled', 'ticket.unstalled', 'ticket.expired', 'ticket.cancelled',
        'ticket.cancel_requested', 'ticket.claimed', 'ticket.claim_released', 'ticket.released', 'ticket.reopened',
        'ticket.tightened', 'ticket.executing', 'ticket.succeeded', 'ticket.failed', 'ticket.outcome_unknown',
        'ticket.resolved', 'ticket.refused', 'ticket.callback_delivered', 'ticket.callback_failed',
        'ticket.callback_exhausted')) NOT VALID;
COMMIT;

BEGIN;
-- Requests of Slack are written down before they are carried out. A body is kept no longer
-- than until then: it can hold addresses to answer to.
ALTER TABLE slack_inbound
    ADD COLUMN IF NOT EXISTS kind text NOT NULL DEFAULT 'interaction',
    ADD COLUMN IF NOT EXISTS transport text NOT NULL DEFAULT 'http',
    ADD COLUMN IF NOT EXISTS body bytea,
    ADD COLUMN IF NOT EXISTS state text NOT NULL DEFAULT 'done',
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS lease_until timestamptz,
    ADD COLUMN IF NOT EXISTS done_at timestamptz,
    ADD COLUMN IF NOT EXISTS outcome text NOT NULL DEFAULT '';
ALTER TABLE slack_inbound
    DROP CONSTRAINT IF EXISTS slack_inbound_kind_check,
    DROP CONSTRAINT IF EXISTS slack_inbound_transport_check,
    DROP CONSTRAINT IF EXISTS slack_inbound_state_check,
    DROP CONSTRAINT IF EXISTS slack_inbound_body_check,
    DROP CONSTRAINT IF EXISTS received_has_its_body,
    ADD CONSTRAINT slack_inbound_kind_check CHECK (kind IN ('interaction', 'command', 'event')),
    ADD CONSTRAINT slack_inbound_transport_check CHECK (transport IN ('http', 'socket')),
    ADD CONSTRAINT slack_inbound_state_check CHECK (state IN ('received', 'done')),
    ADD CONSTRAINT slack_inbound_body_check CHECK (octet_length(body) <= 1048576),
    ADD CONSTRAINT received_has_its_body CHECK ((state = 'received') = (body IS NOT NULL));
COMMENT ON TABLE slack_inbound IS 'Requests of Slack: each is taken once, and worked on until it is done.';
COMMENT ON COLUMN slack_inbound.replay_key IS 'What makes it that request: of its signature over HTTP, of its envelope over a socket, of its event_id for an event.';
COMMENT ON COLUMN slack_inbound.body IS 'As it came, signature and all checked before; null once it is done.';
COMMENT ON COLUMN slack_inbound.lease_until IS 'Until when somebody is at it; null: nobody.';
COMMENT ON COLUMN slack_inbound.outcome IS 'What came of it, in a word: counted, opened, told, refused, or the reason why nothing did.';
CREATE INDEX IF NOT EXISTS slack_inbound_received ON slack_inbound (at) WHERE state = 'received';

-- A card is a place in Slack that shows a ticket, and the authority of its buttons.
ALTER TABLE cards
    ADD COLUMN IF NOT EXISTS kind text NOT NULL DEFAULT 'card',
    ADD COLUMN IF NOT EXISTS slack_user text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS desired bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS rendered text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS due_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS lease_until timestamptz,
    ADD COLUMN IF NOT EXISTS frozen text NOT NULL DEFAULT '';
ALTER TABLE cards
    DROP CONSTRAINT IF EXISTS cards_kind_check,
    DROP CONSTRAINT IF EXISTS cards_rendered_check,
    DROP CONSTRAINT IF EXISTS personal_is_somebodys,
    ADD CONSTRAINT cards_kind_check CHECK (kind IN ('card', 'answer', 'personal')),
    ADD CONSTRAINT cards_rendered_check CHECK (rendered ~ '^([0-9a-f]{64})?$'),
    ADD CONSTRAINT personal_is_somebodys CHECK (kind = 'card' OR slack_user <> '');
COMMENT ON TABLE cards IS 'Where a ticket is shown in Slack. Buttons carry the handle and nothing else.';
COMMENT ON COLUMN cards.kind IS 'card: a stage for those who decide; answer: a question for those who asked for the call; personal: what one person sees of it, on their home tab or by a command.';
COMMENT ON COLUMN cards.slack_user IS 'Whose alone it is: buttons pressed by anybody else are refused. Empty: everybody''s who may decide.';
COMMENT ON COLUMN cards.channel IS 'Where it was to go: a conversation, or the Slack id of a person; of what is no message, a word that tells it from the others.';
COMMENT ON COLUMN cards.desired IS 'The version of its ticket that it should show; shown lags behind it while an update is owed.';
COMMENT ON COLUMN cards.rendered IS 'SHA-256 of what it shows, kept in slack_renderings while it can be decided on.';
COMMENT ON COLUMN cards.frozen IS 'Why it can never be updated again; empty: it can.';
CREATE INDEX IF NOT EXISTS cards_place ON cards (posted_to, ts) WHERE ts <> '';
CREATE INDEX IF NOT EXISTS cards_owed ON cards (due_at) WHERE desired > shown AND ts <> '';

CREATE TABLE IF NOT EXISTS card_copies (
    handle   text NOT NULL REFERENCES cards (handle),
    channel  text NOT NULL CHECK (channel <> ''),
    ts       text NOT NULL CHECK (ts <> ''),
    shown    bigint NOT NULL DEFAULT 0,
    desired  bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    due_at   timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    frozen   text NOT NULL DEFAULT '',
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, ts)
);
COMMENT ON TABLE card_copies IS 'Second messages of a card, posted when Slack''s answer to the first was lost, and found when somebody pressed a button of theirs.';
CREATE INDEX IF NOT EXISTS card_copies_handle ON card_copies (handle);
CREATE INDEX IF NOT EXISTS card_copies_owed ON card_copies (due_at) WHERE desired > shown;

CREATE TABLE IF NOT EXISTS slack_outbox (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 300),
    ticket_id   text COLLATE "C" REFERENCES tickets (id),
    seq         bigint,
    kind        text NOT NULL CHECK (kind IN ('card', 'note', 'announcement', 'question', 'outcome', 'notice')),
    handle      text REFERENCES cards (handle),
    destination text NOT NULL CHECK (length(destination) BETWEEN 1 AND 100),
    priority    smallint NOT NULL CHECK (priority BETWEEN 1 AND 9),
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sending', 'sent', 'unknown', 'dead', 'dropped')),
    attempts    integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    sent_from   timestamptz,
    sent_last   timestamptz,
    channel     text NOT NULL DEFAULT '',
    ts          text NOT NULL DEFAULT '',
    reason      text NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    created_at  timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz,
    CONSTRAINT sent_is_somewhere CHECK (state <> 'sent' OR (channel <> '' AND ts <> '')),
    CONSTRAINT given_up_for_a_reason CHECK (state NOT IN ('dead', 'dropped') OR reason <> ''),
    CONSTRAINT sending_is_leased CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CONSTRAINT done_has_its_hour CHECK ((state IN ('sent', 'dead', 'dropped')) = (done_at IS NOT NULL)),
    CONSTRAINT doubt_has_a_beginning CHECK (state NOT IN ('sending', 'unknown') OR sent_from IS NOT NULL)
);
COMMENT ON TABLE slack_outbox IS 'Messages that are owed to Slack, were sent, or were given up. Each is one post.';
COMMENT ON COLUMN slack_outbox.name IS 'What makes it that message: a second one of the same name is the same message.';
COMMENT ON COLUMN slack_outbox.handle IS 'The card that it is, for card and question; for note the card below which it goes.';
COMMENT ON COLUMN slack_outbox.destination IS 'A channel by id or #name, or a person by id. Of a note: that of its card.';
COMMENT ON COLUMN slack_outbox.priority IS '1 goes first: what ends a ticket, then new cards, progress, reminders.';
COMMENT ON COLUMN slack_outbox.state IS 'unknown: it may be there; it is looked for before it is sent again. dead: it never will be. dropped: it had become pointless.';
COMMENT ON COLUMN slack_outbox.sent_from IS 'When it was sent first, which is where a search for it begins.';
COMMENT ON COLUMN slack_outbox.sent_last IS 'When it was sent last: Slack is given a while from then before it counts as not there.';
CREATE INDEX IF NOT EXISTS slack_outbox_owed ON slack_outbox (due_at) WHERE state IN ('queued', 'sending', 'unknown');
CREATE INDEX IF NOT EXISTS slack_outbox_ticket ON slack_outbox (ticket_id);

CREATE TABLE IF NOT EXISTS slack_renderings (
    hash       text PRIMARY KEY CHECK (hash ~ '^[0-9a-f]{64}$'),
    ticket_id  text COLLATE "C" NOT NULL REFERENCES tickets (id),
    body       bytea NOT NULL CHECK (octet_length(body) BETWEEN 2 AND 16777216),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE slack_renderings IS 'What people were shown when they could decide: the JSON that Slack was given, by its SHA-256. Redacted parts are not in it.';

CREATE TABLE IF NOT EXISTS slack_reviews (
    handle     text PRIMARY KEY CHECK (handle ~ '^v_[0-9a-f]{32}$'),
    card       text NOT NULL REFERENCES cards (handle),
    ticket_id  text COLLATE "C" NOT NULL REFERENCES tickets (id),
    stage      integer NOT NULL,
    digest     text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    person     text NOT NULL,
    slack_team text NOT NULL,
    slack_user text NOT NULL,
    pages      integer NOT NULL CHECK (pages BETWEEN 1 AND 400),
    page       integer NOT NULL DEFAULT 1 CHECK (page BETWEEN 1 AND seen),
    seen       integer NOT NULL DEFAULT 1 CHECK (seen BETWEEN 1 AND pages),
    rendered   text NOT NULL CHECK (rendered ~ '^[0-9a-f]{64}$'),
    opened_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE slack_reviews IS 'Who has the full view of a call open, and how far they have read. Only who has seen all pages may approve from it.';
COMMENT ON COLUMN slack_reviews.page IS 'The page in front of its reader.';
COMMENT ON COLUMN slack_reviews.rendered IS 'SHA-256 of all pages, kept in slack_renderings.';
CREATE INDEX IF NOT EXISTS slack_reviews_ticket ON slack_reviews (ticket_id, person);

CREATE TABLE IF NOT EXISTS slack_homes (
    slack_user   text PRIMARY KEY,
    slack_team   text NOT NULL,
    person       text NOT NULL,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    dirty_at     timestamptz,
    lease_until  timestamptz,
    published_at timestamptz
);
COMMENT ON TABLE slack_homes IS 'Home tabs that somebody has opened. Those opened within seven days are kept current.';
COMMENT ON COLUMN slack_homes.dirty_at IS 'When it last stopped being current; null: it is.';
COMMENT ON COLUMN slack_homes.lease_until IS 'Until when somebody is publishing it; null: nobody is.';

-- What people have asked for is on their home tabs. Only calls made on behalf of somebody
-- pay for it; submits wait while it is built, about a second for a million calls.
CREATE INDEX IF NOT EXISTS calls_on_behalf_of ON calls (lower(on_behalf_of), ticket_id DESC) WHERE on_behalf_of <> '';

-- What Slack says. It is a cache, and every use says how old it may be.
CREATE TABLE IF NOT EXISTS slack_users (
    id      text PRIMARY KEY,
    facts   jsonb NOT NULL,
    read_at timestamptz NOT NULL
);
COMMENT ON TABLE slack_users IS 'What Slack said of a person, and when.';
CREATE TABLE IF NOT EXISTS slack_groups (
    id      text PRIMARY KEY,
    facts   jsonb NOT NULL,
    read_at timestamptz NOT NULL
);
COMMENT ON TABLE slack_groups IS 'What Slack said of a user group and its members, and when.';
CREATE TABLE IF NOT EXISTS slack_channels (
    name    text PRIMARY KEY,
    facts   jsonb NOT NULL,
    read_at timestamptz NOT NULL
);
COMMENT ON TABLE slack_channels IS 'What Slack said of a channel, by the id or name that the configuration has for it, and when.';

CREATE TABLE IF NOT EXISTS slack_tokens (
    app_id     text PRIMARY KEY,
    sealed     bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE slack_tokens IS 'The present pair of tokens of an app whose tokens rotate, encrypted under a key that the database does not hold.';

CREATE TABLE IF NOT EXISTS slack_state (
    name        text PRIMARY KEY,
    holder      text NOT NULL DEFAULT '',
    lease_until timestamptz,
    value       jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE slack_state IS 'Which process has a task of which there is one, until when, and what it knows: the sender with its circuit breaker.';
COMMIT;

BEGIN;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'no_change' AND tgrelid = 'slack_renderings'::regclass) THEN
        CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON slack_renderings FOR EACH ROW EXECUTE FUNCTION refuse_change();
        CREATE TRIGGER no_truncate BEFORE TRUNCATE ON slack_renderings FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    END IF;
END $$;
GRANT UPDATE (posted_to, ts, shown, desired, rendered, attempts, due_at, lease_until, frozen, channel) ON cards TO countersign_app;
GRANT SELECT, INSERT ON card_copies, slack_renderings, slack_reviews TO countersign_app;
GRANT UPDATE (shown, desired, attempts, due_at, lease_until, frozen) ON card_copies TO countersign_app;
GRANT UPDATE (page, seen) ON slack_reviews TO countersign_app;
GRANT SELECT, INSERT, UPDATE ON slack_inbound, slack_outbox TO countersign_app;
GRANT DELETE ON slack_inbound, slack_outbox TO countersign_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON slack_homes, slack_users, slack_groups, slack_channels, slack_tokens, slack_state TO countersign_app;
COMMIT;

ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_type_check;

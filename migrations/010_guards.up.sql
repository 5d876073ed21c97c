-- Guards that hold for everybody, the owner included.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: its rows are facts and never change', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION guard_ticket() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version <= OLD.version THEN
        RAISE EXCEPTION 'ticket % changes only by a new version', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.id, NEW.caller, NEW.created_at, NEW.expires_at) IS DISTINCT FROM
       (OLD.id, OLD.caller, OLD.created_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'ticket % keeps its id, caller and dates', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.finished_at IS NOT NULL AND NEW.state <> OLD.state
       AND NOT (OLD.state = 'outcome_unknown' AND NEW.state IN ('succeeded', 'failed')) THEN
        RAISE EXCEPTION 'ticket % is final: % cannot become %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    -- The one-way door: what may have been sent is never made unsent.
    IF OLD.state = 'executing' AND NEW.state NOT IN ('executing', 'succeeded', 'failed', 'outcome_unknown') THEN
        RAISE EXCEPTION 'ticket % is being executed: it cannot become %', OLD.id, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard BEFORE UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION guard_ticket();
CREATE TRIGGER no_delete BEFORE DELETE ON tickets FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tickets FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['audit_events', 'calls', 'decisions', 'results', 'delivery_attempts'] LOOP
        EXECUTE format('CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION refuse_change()', t);
        EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', t);
    END LOOP;
END $$;

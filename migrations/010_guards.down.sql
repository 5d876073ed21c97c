DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['audit_events', 'calls', 'decisions', 'results', 'delivery_attempts'] LOOP
        EXECUTE format('DROP TRIGGER no_change ON %I', t);
        EXECUTE format('DROP TRIGGER no_truncate ON %I', t);
    END LOOP;
END $$;
DROP TRIGGER no_truncate ON tickets;
DROP TRIGGER no_delete ON tickets;
DROP TRIGGER guard ON tickets;
DROP FUNCTION guard_ticket();
DROP FUNCTION refuse_change();

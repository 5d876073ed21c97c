DROP TABLE instance_secrets, workers, slack_inbound, cards, delivery_attempts, deliveries, idempotency_keys,
    results, decisions, calls, tickets, audit_events;

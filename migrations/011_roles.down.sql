-- The role itself stays: other databases of the cluster may use it.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM countersign_app;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM countersign_app;
REVOKE ALL ON SCHEMA public FROM countersign_app;

ALTER TABLE calls RESET (toast_tuple_target);
ALTER TABLE audit_events RESET (toast_tuple_target);
CREATE INDEX river_job_metadata_index ON river_job USING GIN(metadata);
CREATE INDEX river_job_args_index ON river_job USING GIN(args);

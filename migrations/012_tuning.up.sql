-- What was measured to cost much and give nothing here.

-- Nobody searches jobs by arguments or metadata, and each job inserted paid for both: a
-- tenth of the database's time for a submit.
DROP INDEX river_job_args_index;
DROP INDEX river_job_metadata_index;

-- Rows of some kilobytes stay whole. Compressing them and moving parts elsewhere took
-- another tenth, for rows that are written once and read rarely.
ALTER TABLE audit_events SET (toast_tuple_target = 8160);
ALTER TABLE calls SET (toast_tuple_target = 8160);

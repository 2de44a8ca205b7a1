DROP TABLE witness_target;
DROP TABLE witness_checkpoint;
DROP TABLE witness_log;

ALTER TABLE model_spend DROP COLUMN cached;
DROP TABLE model_decision;
DROP TABLE model_answer_use;
DROP TABLE model_answer;

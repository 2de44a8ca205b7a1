ALTER TABLE token DROP COLUMN models;
DROP TABLE model_config;
DROP TABLE model_spend;
DROP TABLE budget_lease;
DROP TABLE budget_use;
DROP TABLE budget;

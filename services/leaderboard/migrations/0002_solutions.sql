-- Entries are found by their cause; of a topic as a whole only its solutions are looked for.
DROP INDEX ledger_topic;
CREATE INDEX ledger_solution ON ledger (topic_id, epoch) WHERE rule = 'solution';

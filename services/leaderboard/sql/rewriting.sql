-- name: begin_preview
-- It may take as long as it has to.
SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true),
    plan_by_key();

-- name: count_topics
SELECT count(*) FROM topic;

-- name: next_topics
SELECT topic_id FROM topic WHERE $1::text IS NULL OR topic_id > $1 ORDER BY topic_id LIMIT $2;

-- name: write_version
INSERT INTO rule_version (version, rule_set, from_at, rules, rewriting, set_by)
VALUES ($1, $2, coalesce($3, '-infinity'::timestamptz), $4::jsonb, $5, $6);

-- name: begin_shadow
UPDATE epoch SET shadow = current + 1, walked = NULL;

-- name: entries_since
SELECT DISTINCT topic_id FROM ledger WHERE epoch = (SELECT current FROM epoch) AND at >= $1;

-- name: progress
SELECT shadow, oldest < current AS something_old FROM epoch;

-- name: swap
WITH swapped AS (UPDATE epoch SET current = shadow, shadow = NULL, walked = NULL)
UPDATE rule_version SET rewriting = false WHERE rewriting
RETURNING rule_set, version, nullif(from_at, '-infinity') AS from_at, rules;

-- name: log_swap
INSERT INTO board_change (fold, board)
SELECT (SELECT nextval('fold')), board FROM (
    SELECT DISTINCT board FROM board WHERE epoch IN (SELECT current FROM epoch UNION SELECT current - 1 FROM epoch)
) AS both_writings;

-- name: clear_old
-- Some rows of writings that nobody reads any more; how many. The boards themselves go last.
WITH present AS (SELECT current FROM epoch),
    old_board AS (SELECT board_no FROM board, present WHERE epoch < current),
    a AS (
        DELETE FROM ledger WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM ledger WHERE epoch < (SELECT current FROM present) LIMIT $1)) RETURNING 1
    ), b AS (
        DELETE FROM standing WHERE ctid = ANY(ARRAY(
            SELECT s.ctid FROM old_board AS o JOIN standing AS s ON board_period(s.board_no, s.period) BETWEEN
                board_period(o.board_no, 0) AND board_period(o.board_no, 2147483647)
            LIMIT $1)) RETURNING 1
    ), c AS (
        DELETE FROM score WHERE board_no IN (SELECT board_no FROM old_board) RETURNING 1
    ), d AS (
        DELETE FROM score_block WHERE board_no IN (SELECT board_no FROM old_board) RETURNING 1
    ), counted AS (SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b) AS n), e AS (
        DELETE FROM board WHERE board_no IN (SELECT board_no FROM old_board) AND (SELECT n FROM counted) = 0 RETURNING 1
    )
SELECT n + (SELECT count(*) FROM e) FROM counted;

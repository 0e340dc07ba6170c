-- name: oldest_running
SELECT pg_snapshot_xmin(pg_current_snapshot())::text;

-- name: changed_since
-- Rows that came from another cluster (pg_restore) bear numbers of transactions that this one has not begun yet: they are
-- read the first time, as everything is.
SELECT topic_id, CASE WHEN known AND visible AND kind = 'question' THEN created_us END AS created_us, response_us,
    target_us, space, language
FROM topic_state
WHERE changed >= $1::text::xid8
    AND changed < CASE WHEN $1 = '0' THEN '18446744073709551615'::xid8 ELSE pg_snapshot_xmax(pg_current_snapshot()) END;

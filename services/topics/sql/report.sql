-- name: oldest_running
SELECT pg_snapshot_xmin(pg_current_snapshot())::text;

-- name: changed_since
SELECT topic_id, CASE WHEN known AND visible AND kind = 'question' THEN created_us END AS created_us, response_us,
    target_us, space, language
FROM topic_state
WHERE changed >= $1::text::xid8;

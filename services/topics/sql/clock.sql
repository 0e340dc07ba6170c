-- name: due_topics
SELECT topic_id, title, url, space, language, tags, author_id, created_at, target_us, due_at, appended_at, backfill
FROM topic_state
WHERE next_at <= $1
ORDER BY next_at
LIMIT $2
FOR UPDATE SKIP LOCKED;

-- name: told_and_claims
SELECT g.topic_id, (SELECT max(stage) FROM told WHERE told.topic_id = g.topic_id) AS told, c.until
FROM unnest($1::text[]) AS g (topic_id)
LEFT JOIN LATERAL (SELECT until FROM claim WHERE claim.topic_id = g.topic_id AND ended_at IS NULL) AS c ON true;

-- name: write_told
INSERT INTO told (topic_id, stage, told_at)
SELECT * FROM unnest($1::text[], $2::smallint[], $3::timestamptz[]) AS given (topic_id, stage, told_at)
ORDER BY topic_id
ON CONFLICT DO NOTHING;

-- name: write_next
INSERT INTO topic_state AS s (topic_id, next_at) SELECT * FROM unnest($1::text[], $2::timestamptz[])
ON CONFLICT (topic_id) DO UPDATE SET next_at = excluded.next_at;

-- name: expired_claims
SELECT c.claim_id
FROM claim AS c JOIN topic_state AS s USING (topic_id)
WHERE c.ended_at IS NULL AND c.until <= now()
ORDER BY c.until
LIMIT 500
FOR UPDATE SKIP LOCKED;

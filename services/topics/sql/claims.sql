-- name: lock_topic
SELECT s.topic_id, s.waiting, s.known, s.visible, s.closed, s.kind, s.due_at, s.response_reply_id, s.author_id,
    s.created_at, s.target_us, s.appended_at, s.backfill, now() AS now
FROM topic_state AS s
WHERE s.topic_id = coalesce((SELECT root FROM alias WHERE what = 'topic' AND id = $1), $1) AND s.known
FOR UPDATE;

-- name: lock_member
SELECT pg_advisory_xact_lock(4829120, hashtext($1));

-- name: claim_of_topic
SELECT claim_id, coalesce(a.root, member_id) AS member_id, until
FROM claim LEFT JOIN alias AS a ON a.what = 'member' AND a.id = member_id
WHERE topic_id = $1 AND ended_at IS NULL;

-- name: claims_of_member
SELECT count(*) FROM claim
WHERE member_id IN (SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1)
    AND ended_at IS NULL AND until > now();

-- name: askers
SELECT coalesce(a.root, t.author_id) AS member_id
FROM topic AS t LEFT JOIN alias AS a ON a.what = 'member' AND a.id = t.author_id
WHERE t.created_at IS NOT NULL AND t.topic_id IN (
    SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'topic' AND root = $1
);

-- name: is_star
SELECT appointed FROM star_change
WHERE at <= now() AND (member_id = $1 OR member_id IN (SELECT id FROM alias WHERE what = 'member' AND root = $1))
ORDER BY at DESC, appointed LIMIT 1;

-- name: write_claim
INSERT INTO claim (topic_id, member_id, claimed_at, until) VALUES ($1, $2, now(), now() + $3)
RETURNING topic_id, member_id, until, claimed_at;

-- name: told
SELECT max(stage) FROM told WHERE topic_id = $1;

-- name: write_next
UPDATE topic_state SET next_at = $2 WHERE topic_id = $1 AND next_at IS DISTINCT FROM $2;

-- name: take_job
SELECT job_id, kind, data, actor_id, after, clock_timestamp() AS now FROM job
WHERE done_at IS NULL AND not_before <= now()
ORDER BY not_before, job_id LIMIT 1
FOR UPDATE SKIP LOCKED;

-- name: write_job
-- What has another page gives way to what waits beside it.
UPDATE job SET after = $2, told = told + $3, done_at = CASE WHEN $4 THEN now() END,
    not_before = CASE WHEN $4 THEN not_before ELSE clock_timestamp() END
WHERE job_id = $1;

-- name: end_job
DELETE FROM job WHERE job_id = $1;

-- name: job_exists
SELECT EXISTS (SELECT FROM job WHERE key = $1);

-- name: write_job_of
INSERT INTO job (key, kind, data, done_at) VALUES ($1, 'fan-out', $2, CASE WHEN $3 THEN now() END)
ON CONFLICT (key) DO NOTHING;

-- name: followers
SELECT DISTINCT f.member_id
FROM unnest($1::text[], $2::text[]) AS g (what, value)
CROSS JOIN LATERAL (
    SELECT i.member_id FROM interest AS i
    WHERE i.what = g.what AND i.value = g.value AND NOT i.muted AND i.member_id > $3
    ORDER BY i.member_id LIMIT $4
) AS f
ORDER BY f.member_id LIMIT $4;

-- name: asked
-- Who was asked to answer the question: not those who had it muted, or want none of it.
SELECT DISTINCT n.member_id FROM notification AS n
WHERE n.topic_id = $1 AND n.category = 'answer-needed' AND n.member_id > $2
    AND EXISTS (
        SELECT FROM delivery AS d WHERE d.notification_id = n.notification_id
            AND coalesce(d.reason, '') <> 'preference' AND coalesce(d.reason, '') NOT LIKE 'muted-%'
    )
ORDER BY n.member_id LIMIT $3;

-- name: staff
SELECT member_id FROM preference WHERE staff AND member_id > $1 ORDER BY member_id LIMIT $2;

-- name: once_stars
SELECT DISTINCT member_id FROM star_change WHERE member_id > $1 ORDER BY member_id LIMIT $2;

-- name: of_rank
SELECT member_id FROM star_rank WHERE rank = $1 AND member_id > $2 ORDER BY member_id LIMIT $3;

-- name: everyone
SELECT member_id FROM member WHERE status = 'active' AND member_id > $1 ORDER BY member_id LIMIT $2;

-- name: stars_among
-- Who is a Star now: the last word about them, or about an account that was merged into theirs.
SELECT g.member_id
FROM unnest($1::text[]) AS g (member_id)
CROSS JOIN LATERAL (
    SELECT s.appointed FROM star_change AS s
    WHERE s.at <= now() AND s.member_id IN (
        SELECT g.member_id UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = g.member_id
    )
    ORDER BY s.at DESC, s.appointed LIMIT 1
) AS last
WHERE last.appointed
ORDER BY g.member_id;

-- name: waiting_of_topic
SELECT d.delivery_id
FROM notification AS n JOIN delivery AS d USING (notification_id)
WHERE n.topic_id = $1 AND d.state IN ('pending', 'retry') AND d.due_at > now() AND d.delivery_id > $2
ORDER BY d.delivery_id LIMIT $3;

-- name: wake
UPDATE delivery SET due_at = now()
WHERE delivery_id IN (
    SELECT delivery_id FROM delivery WHERE delivery_id = ANY($1::bigint[]) AND state = 'pending'
    ORDER BY delivery_id FOR UPDATE SKIP LOCKED
);

-- name: sweep
WITH lost AS (
    SELECT d.delivery_id, d.state AS was, n.category
    FROM delivery AS d JOIN notification AS n USING (notification_id)
    WHERE d.state IN ('leased', 'sending') AND d.lease_until < now()
    ORDER BY d.delivery_id LIMIT $2
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE delivery AS d SET
    state = CASE WHEN lost.was = 'leased' THEN 'pending' WHEN lost.category = ANY($1::text[]) THEN 'retry'
        ELSE 'unknown' END,
    reason = CASE WHEN lost.was = 'leased' THEN d.reason ELSE 'died-while-sending' END,
    due_at = CASE WHEN lost.was = 'leased' THEN d.due_at ELSE now() END,
    attempts = CASE WHEN lost.was = 'leased' THEN d.attempts ELSE d.attempts + 1 END,
    lease_until = NULL,
    history = d.history || CASE WHEN lost.was = 'leased'
        THEN jsonb_build_array(jsonb_build_object('at', now(), 'state', 'pending', 'reason', 'lease-ran-out'))
        ELSE jsonb_build_array(jsonb_build_object('at', now(), 'state', 'unknown', 'reason', 'died-while-sending')) END
FROM lost WHERE d.delivery_id = lost.delivery_id
RETURNING d.delivery_id, d.member_id, d.channel, lost.category, d.state, lost.was, now() AS now;

-- name: close_digests
-- Closing is one conditional update; what it closed becomes a notification of its own in the same statement.
WITH due AS (
    SELECT digest_id FROM digest WHERE closed_at IS NULL AND closes_at <= now()
    ORDER BY digest_id LIMIT $1
    FOR UPDATE SKIP LOCKED
), closed AS (
    UPDATE digest AS g SET closed_at = now() FROM due WHERE g.digest_id = due.digest_id AND g.closed_at IS NULL
    RETURNING g.digest_id, g.member_id
), told AS (
    INSERT INTO notification (dedupe_key, member_id, category, what, data, at, expires_at, in_inbox)
    SELECT md5('digest ' || digest_id)::uuid, member_id, 'digest', 'digest',
        jsonb_build_object('digest_id', digest_id), now(), now() + $2::interval, false
    FROM closed ORDER BY digest_id
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING notification_id, member_id, expires_at
)
INSERT INTO delivery (notification_id, member_id, priority, due_at, expires_at, channel, state, history)
SELECT notification_id, member_id, $3, now(), expires_at, 'email', 'pending',
    jsonb_build_array(jsonb_build_object('at', now(), 'state', 'pending'))
FROM told ORDER BY notification_id
RETURNING delivery_id;

-- name: week
-- Of the questions that were asked within the week: how many were answered in time, and how many were not, or never
-- will be, because they were closed without an answer. What is still waited for is neither.
SELECT count(*) FILTER (WHERE w.within_target) AS met,
    count(*) FILTER (WHERE NOT coalesce(w.within_target, false) AND (
        w.answered_at IS NOT NULL OR w.breached_at IS NOT NULL
        OR t.closed_at IS NOT NULL AND NOT coalesce(t.reopened_at > t.closed_at, false)
    )) AS missed
FROM topic AS t
LEFT JOIN topic_now AS w USING (topic_id)
WHERE t.created_at >= $1 AND t.created_at < $2 AND t.kind = 'question'
    AND NOT (t.deleted_at IS NOT NULL AND NOT coalesce(t.restored_at > t.deleted_at, false))
    AND NOT EXISTS (SELECT FROM alias WHERE what = 'topic' AND id = t.topic_id);

-- name: forget_old
-- What has done its work and is needed no more.
WITH jobs AS (
    DELETE FROM job WHERE job_id IN (
        SELECT job_id FROM job WHERE done_at < $1::timestamptz - interval '60 days' LIMIT 500 FOR UPDATE SKIP LOCKED
    )
)
DELETE FROM spent WHERE (member_id, day) IN (
    SELECT member_id, day FROM spent WHERE day < ($1::timestamptz - interval '3 days')::date
    LIMIT 500 FOR UPDATE SKIP LOCKED
);

-- name: resolve
-- The topic that an id stands for, where it is known.
SELECT s.*, now() AS now,
    (SELECT count(*) FROM reply WHERE stands AND reply.topic_id IN (
        SELECT s.topic_id UNION ALL SELECT id FROM alias WHERE what = 'topic' AND alias.root = s.topic_id
    )) AS replies
FROM topic_state AS s
WHERE s.topic_id = coalesce((SELECT root FROM alias WHERE what = 'topic' AND id = $1), $1) AND s.known;

-- name: solution
-- The latest accepted reply, in force unless that acceptance was taken back later, the reply cannot be seen, or it
-- lies in another topic than the acceptance names.
WITH ids AS (
    SELECT $1::text AS id UNION ALL SELECT id FROM alias WHERE what = 'topic' AND root = $1
), latest AS (
    SELECT * FROM acceptance
    WHERE topic_id IN (SELECT id FROM ids) AND accepted_at IS NOT NULL
    ORDER BY accepted_stamp DESC LIMIT 1
)
SELECT latest.reply_id, latest.accepted_at AS at
FROM latest JOIN reply USING (reply_id)
WHERE (latest.revoked_at IS NULL OR latest.revoked_at < latest.accepted_at)
    AND reply.stands AND reply.topic_id IN (SELECT id FROM ids);

-- name: open_claim
SELECT coalesce(a.root, member_id) AS member_id, claimed_at, until
FROM claim LEFT JOIN alias AS a ON a.what = 'member' AND a.id = member_id
WHERE topic_id = $1 AND ended_at IS NULL AND until > now();

-- name: timeline
-- What happened, in words of one kind each; of a long thread only what concerns the clock, and of what can be repeated at
-- will the latest. Nothing of replies that only staff may read.
WITH ids AS (
    SELECT $1::text AS id UNION ALL SELECT id FROM alias WHERE what = 'topic' AND root = $1
), claims AS (
    SELECT * FROM claim WHERE topic_id = $1 ORDER BY claimed_at DESC LIMIT 40
), acceptances AS (
    SELECT a.* FROM acceptance AS a JOIN reply AS r USING (reply_id)
    WHERE a.topic_id IN (SELECT id FROM ids) AND r.visibility = 'public'
    ORDER BY greatest(a.accepted_at, a.revoked_at) DESC LIMIT 20
), happened AS (
    SELECT created_at AS at, 'asked' AS what, topic_id, NULL AS reply_id, author_id AS member_id, NULL AS stage
    FROM topic WHERE topic_id IN (SELECT id FROM ids) AND created_at IS NOT NULL
    UNION ALL SELECT told_at, 'told', topic_id, NULL, NULL, (ARRAY['new', 'stalled', 'warning', 'breached'])[stage]
    FROM told WHERE topic_id = $1
    UNION ALL SELECT claimed_at, 'claimed', topic_id, NULL, member_id, NULL FROM claims
    UNION ALL SELECT ended_at, 'released', topic_id, NULL, member_id, why FROM claims WHERE ended_at IS NOT NULL
    UNION ALL SELECT response_at, 'answered', topic_id, response_reply_id, responder_id, NULL
    FROM topic_state WHERE topic_id = $1 AND response_at IS NOT NULL
    UNION ALL (SELECT deleted_at, 'reply-deleted', topic_id, reply_id, author_id, NULL FROM reply
    WHERE topic_id IN (SELECT id FROM ids) AND NOT stands AND visibility = 'public' AND deleted_at IS NOT NULL
    ORDER BY deleted_at DESC LIMIT 20)
    UNION ALL SELECT accepted_at, 'accepted', topic_id, reply_id, NULL, NULL
    FROM acceptances WHERE accepted_at IS NOT NULL
    UNION ALL SELECT revoked_at, 'acceptance-revoked', topic_id, reply_id, NULL, NULL
    FROM acceptances WHERE revoked_at IS NOT NULL
    UNION ALL SELECT closed_at, 'closed', topic_id, NULL, NULL, NULL FROM topic
    WHERE topic_id = $1 AND closed_at IS NOT NULL
    UNION ALL SELECT reopened_at, 'reopened', topic_id, NULL, NULL, NULL FROM topic
    WHERE topic_id = $1 AND reopened_at IS NOT NULL
    UNION ALL SELECT deleted_at, 'deleted', topic_id, NULL, NULL, NULL FROM topic
    WHERE topic_id = $1 AND deleted_at IS NOT NULL
    UNION ALL SELECT restored_at, 'restored', topic_id, NULL, NULL, NULL FROM topic
    WHERE topic_id = $1 AND restored_at IS NOT NULL
)
SELECT h.at, h.what, h.topic_id, h.reply_id, coalesce(a.root, h.member_id) AS member_id, h.stage AS detail
FROM happened AS h LEFT JOIN alias AS a ON a.what = 'member' AND a.id = h.member_id
ORDER BY at, h.what LIMIT 200;

-- name: page
-- {state} as asked; the rest narrows. Ordered and continued by (due_at, topic_id), upwards or downwards.
SELECT s.topic_id, s.title, s.url, s.space, s.language, s.tags, s.kind, s.author_id, s.created_at, s.due_at,
    s.response_reply_id, s.responder_id, s.response_at, s.response_us, s.target_us, s.waiting, s.closed, s.visible,
    coalesce(a.root, c.member_id) AS claimed_by, c.until, now() AS now
FROM topic_state AS s
LEFT JOIN claim AS c ON c.topic_id = s.topic_id AND c.ended_at IS NULL AND c.until > now()
LEFT JOIN alias AS a ON a.what = 'member' AND a.id = c.member_id
WHERE {state}
    AND ($1::text IS NULL OR s.space = $1)
    AND ($2::text IS NULL OR s.language = $2)
    AND ($3::text IS NULL OR s.tags ? $3)
    AND {claimed}
    AND (NOT $5::boolean OR c.member_id IS NULL)
    AND ($6::timestamptz IS NULL OR (s.due_at, s.topic_id) {after} ($6, $7::text))
ORDER BY s.due_at {order}, s.topic_id {order}
LIMIT $8;

-- name: anybody
$4::text IS NULL

-- name: claimed
-- Begins with the member's claims, which are few, rather than with all that waits.
s.topic_id IN (
    SELECT topic_id FROM claim
    WHERE ended_at IS NULL AND until > now()
        AND member_id IN (SELECT $4::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $4)
)

-- name: waiting_counts
-- How many wait, and how many of them too long, by space and language.
SELECT space, language, count(*) AS waiting, count(*) FILTER (WHERE due_at < now()) AS breached, min(due_at) FILTER (
    WHERE due_at >= now()
) AS next_due
FROM topic_state WHERE waiting
GROUP BY space, language;

-- name: asked
-- The questions behind a point of the report: created in [$1, $2), in a space, in a language, with an outcome.
SELECT s.topic_id, s.title, s.url, s.space, s.language, s.tags, s.kind, s.author_id, s.created_at, s.due_at,
    s.response_reply_id, s.responder_id, s.response_at, s.response_us, s.target_us, s.waiting, s.closed, s.visible,
    NULL AS claimed_by, NULL AS until, now() AS now
FROM topic_state AS s
WHERE s.known AND s.visible AND s.kind = 'question'
    AND s.created_at >= $1 AND s.created_at < $2
    AND ($3::text IS NULL OR s.space = $3)
    AND ($4::text IS NULL OR s.language = $4)
    AND CASE $5::text
        WHEN 'met' THEN s.response_us <= s.target_us
        WHEN 'missed' THEN s.response_us > s.target_us OR (s.response_us IS NULL AND s.due_at < now())
        WHEN 'pending' THEN s.response_us IS NULL AND s.due_at >= now()
        ELSE true
    END
    AND ($6::timestamptz IS NULL OR (s.created_at, s.topic_id) > ($6, $7::text))
ORDER BY s.created_at, s.topic_id
LIMIT $8;

-- name: search
-- By id, or by the beginnings of the title's words; the latest first, of the first few thousand that are found.
SELECT s.topic_id, s.title, s.url, s.space, s.language, s.tags, s.kind, s.author_id, s.created_at, s.due_at,
    s.response_reply_id, s.responder_id, s.response_at, s.response_us, s.target_us, s.waiting, s.closed, s.visible,
    NULL AS claimed_by, NULL AS until, now() AS now
FROM topic_state AS s
WHERE s.known AND s.visible AND s.topic_id IN (
    SELECT coalesce((SELECT root FROM alias WHERE what = 'topic' AND id = $1), $1)
    UNION ALL
    (SELECT topic_id FROM topic WHERE to_tsvector('simple', coalesce(title, '')) @@ to_tsquery('simple', $2) LIMIT 2000)
)
ORDER BY (s.topic_id = $1) DESC, s.created_at DESC, s.topic_id
LIMIT $3;

-- name: names
SELECT member_id, name FROM member WHERE member_id = ANY($1::text[]) AND name IS NOT NULL;

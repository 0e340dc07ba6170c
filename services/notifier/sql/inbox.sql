-- name: page
SELECT n.notification_id, n.category, n.what, n.topic_id, n.data, n.at, n.read_at, t.title, t.url,
    actor.name AS actor_name
FROM notification AS n
LEFT JOIN topic AS t ON t.topic_id = n.topic_id
LEFT JOIN member AS actor ON actor.member_id = n.actor_id
WHERE n.member_id IN (SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1)
    AND n.in_inbox AND (NOT $2 OR n.read_at IS NULL)
    AND ($3::timestamptz IS NULL OR (n.at, n.notification_id) < ($3, $4::bigint))
ORDER BY n.at DESC, n.notification_id DESC
LIMIT $5;

-- name: unread
SELECT count(*)::int FROM (
    SELECT FROM notification
    WHERE member_id IN (SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1)
        AND in_inbox AND read_at IS NULL
    LIMIT $2
) AS counted;

-- name: mark
UPDATE notification SET read_at = CASE WHEN $2 THEN coalesce(read_at, now()) END
WHERE notification_id = ANY($3::bigint[])
    AND member_id IN (SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1);

-- name: mark_all
UPDATE notification SET read_at = CASE WHEN $2 THEN now() END
WHERE member_id IN (SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1)
    AND in_inbox AND (read_at IS NULL) = $2;

-- name: line
SELECT n.notification_id, n.what, n.topic_id, n.data, t.title, t.url, actor.name AS actor_name
FROM notification AS n
LEFT JOIN topic AS t ON t.topic_id = n.topic_id
LEFT JOIN member AS actor ON actor.member_id = n.actor_id
WHERE n.notification_id = $2
    AND n.member_id IN (SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1);

-- name: lately
-- What a member was told of in the last week, whatever became of it.
SELECT n.notification_id, n.category, n.what, n.topic_id, n.actor_id, n.data, n.at, n.expires_at, t.title, t.url,
    actor.name AS actor_name
FROM notification AS n
LEFT JOIN topic AS t ON t.topic_id = n.topic_id
LEFT JOIN member AS actor ON actor.member_id = n.actor_id
WHERE n.member_id IN (SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1)
    AND n.at > now() - interval '7 days' AND n.category <> ALL($2::text[])
ORDER BY n.at DESC LIMIT $3;

-- name: latest_of_kind
SELECT n.notification_id, n.member_id, n.category, n.what, n.topic_id, n.actor_id, n.data, n.at, n.expires_at, n.made_at,
    t.title, t.url, actor.name AS actor_name
FROM notification AS n
LEFT JOIN topic AS t ON t.topic_id = n.topic_id
LEFT JOIN member AS actor ON actor.member_id = n.actor_id
WHERE n.what = $1
ORDER BY n.notification_id DESC LIMIT 1;

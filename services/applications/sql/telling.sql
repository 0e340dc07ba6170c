-- name: everyone
-- Who is in the group, or should be.
SELECT member_id FROM group_member UNION SELECT person FROM star;

-- name: want
-- Of these members and of whom they stand for: who should be in the group, and who no more.
WITH named AS (
    SELECT id FROM unnest($1::text[]) AS given (id)
    UNION SELECT root FROM alias WHERE what = 'member' AND id = ANY($1::text[])
), standing AS (
    SELECT n.id, NOT EXISTS (SELECT FROM alias AS a WHERE a.what = 'member' AND a.id = n.id) AND EXISTS (
        SELECT FROM membership AS m WHERE m.state <> 'retired' AND m.member_id = ANY(array(
            SELECT n.id UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = n.id
        ))
    ) AS is_star
    FROM named AS n
)
INSERT INTO group_member AS g (member_id, wanted)
SELECT s.id, s.is_star FROM standing AS s LEFT JOIN group_member AS known ON known.member_id = s.id
WHERE s.is_star OR known.wanted
ORDER BY s.id
ON CONFLICT (member_id) DO UPDATE SET wanted = excluded.wanted, is_in = NULL, tries = 0, next_at = now(), problem = NULL
WHERE g.wanted <> excluded.wanted;

-- name: take_members
-- A lease: who dies with it in hand loses it again.
WITH due AS (
    SELECT member_id FROM group_member WHERE next_at <= now() AND is_in IS DISTINCT FROM wanted
    ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE group_member AS g SET tries = tries + 1, next_at = now() + $2::int * interval '1 second'
FROM due WHERE g.member_id = due.member_id RETURNING g.member_id, g.wanted, g.tries;

-- name: brought
-- If it is wanted otherwise by now, somebody else may have looked before this was done: nobody knows, so look again.
UPDATE group_member SET is_in = CASE WHEN wanted = $2 THEN wanted END,
    next_at = CASE WHEN wanted = $2 THEN next_at ELSE now() END, problem = $3
WHERE member_id = $1;

-- name: later_member
-- What was asked for may be done all the same.
UPDATE group_member SET is_in = NULL, next_at = now() + $2::float8 * interval '1 second', problem = $3 WHERE member_id = $1;

-- name: write_webhooks
INSERT INTO webhook (key, member_id, url, body) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]);

-- name: take_webhooks
WITH due AS (
    SELECT webhook_id FROM webhook WHERE next_at <= now() ORDER BY next_at, webhook_id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE webhook AS w SET tries = tries + 1, next_at = now() + $2::int * interval '1 second'
FROM due WHERE w.webhook_id = due.webhook_id
RETURNING w.webhook_id, w.key, w.url, w.body, w.tries, w.made_at;

-- name: sent
DELETE FROM webhook WHERE webhook_id = $1;

-- name: later_webhook
UPDATE webhook SET next_at = now() + $2::float8 * interval '1 second', problem = $3 WHERE webhook_id = $1;

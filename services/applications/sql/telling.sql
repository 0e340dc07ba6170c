-- name: want
INSERT INTO group_member (member_id, wanted) VALUES ($1, $2)
ON CONFLICT (member_id) DO UPDATE SET wanted = excluded.wanted, is_in = NULL, tries = 0, next_at = now(), problem = NULL;

-- name: take_members
-- A lease: who dies with it in hand loses it again.
WITH due AS (
    SELECT member_id FROM group_member WHERE next_at <= now() AND is_in IS DISTINCT FROM wanted
    ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE group_member AS g SET tries = tries + 1, next_at = now() + $2::int * interval '1 second'
FROM due WHERE g.member_id = due.member_id RETURNING g.member_id, g.wanted, g.tries;

-- name: brought
-- Unless it is wanted otherwise by now.
UPDATE group_member SET is_in = wanted, problem = $3 WHERE member_id = $1 AND wanted = $2;

-- name: later_member
UPDATE group_member SET next_at = now() + $2::float8 * interval '1 second', problem = $3 WHERE member_id = $1;

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

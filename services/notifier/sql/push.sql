-- name: subscriptions
SELECT subscription_id, endpoint, p256dh, auth FROM push_subscription WHERE subscription_id = ANY($1::bigint[]);

-- name: subscribe
INSERT INTO push_subscription AS s (member_id, endpoint, p256dh, auth) VALUES ($1, $2, $3, $4)
ON CONFLICT (endpoint) DO UPDATE SET member_id = excluded.member_id, p256dh = excluded.p256dh, auth = excluded.auth,
    strikes = 0, struck_at = NULL
RETURNING subscription_id, endpoint, made_at;

-- name: count
SELECT count(*) FROM push_subscription WHERE member_id = $1;

-- name: unsubscribe
DELETE FROM push_subscription WHERE endpoint = $2 AND member_id IN (
    SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1
) RETURNING subscription_id;

-- name: of_member
SELECT subscription_id, endpoint, made_at FROM push_subscription WHERE member_id = $1 ORDER BY subscription_id;

-- name: subscriptions
SELECT subscription_id, endpoint, p256dh, auth FROM push_subscription WHERE subscription_id = ANY($1::bigint[]);

-- name: subscribe
-- Whoever has it already keeps its id. Another member gets a new one: what waits for the old id is not theirs to see.
WITH kept AS (
    UPDATE push_subscription SET member_id = $1, p256dh = $3, auth = $4, strikes = 0, struck_at = NULL
    WHERE endpoint = $2 AND member_id IN (
        SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1
    )
    RETURNING subscription_id, endpoint, made_at
), made AS (
    INSERT INTO push_subscription (member_id, endpoint, p256dh, auth)
    SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM kept)
    ON CONFLICT (endpoint) DO UPDATE SET subscription_id = DEFAULT, member_id = excluded.member_id,
        p256dh = excluded.p256dh, auth = excluded.auth, made_at = excluded.made_at, strikes = 0, struck_at = NULL
    RETURNING subscription_id, endpoint, made_at
)
SELECT * FROM kept UNION ALL SELECT * FROM made;

-- name: count
SELECT count(*) FROM push_subscription WHERE member_id = $1;

-- name: unsubscribe
DELETE FROM push_subscription WHERE endpoint = $2 AND member_id IN (
    SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1
) RETURNING subscription_id;

-- name: of_member
SELECT subscription_id, endpoint, made_at FROM push_subscription WHERE member_id = $1 ORDER BY subscription_id;

-- name: columns
d.delivery_id, d.notification_id, d.member_id, d.channel, n.category, n.what, n.topic_id, d.state, d.reason, d.address,
    d.provider, d.attempts, d.made_at, d.due_at, d.expires_at, d.history

-- name: of_all
delivery AS d JOIN notification AS n USING (notification_id)

-- name: of_topic
notification AS n JOIN delivery AS d USING (notification_id)

-- name: accounts
-- All ids that stand for the same member as this one.
WITH who AS (
    SELECT coalesce((SELECT root FROM alias WHERE what = 'member' AND id = $1), $1) AS root
)
SELECT root AS id FROM who
UNION ALL
SELECT alias.id FROM alias JOIN who USING (root) WHERE what = 'member';

-- name: deliveries
SELECT {columns}
FROM {which}
WHERE ($1::text[] IS NULL OR d.member_id = ANY($1)) AND ($2::text IS NULL OR d.state = $2)
    AND ($3::text IS NULL OR d.channel = $3) AND ($4::text IS NULL OR n.category = $4)
    AND ($5::text IS NULL OR n.topic_id = $5) AND ($6::bigint IS NULL OR d.delivery_id < $6)
ORDER BY d.delivery_id DESC
LIMIT $7;

-- name: delivery
SELECT {columns}
FROM delivery AS d JOIN notification AS n USING (notification_id)
WHERE d.delivery_id = $1;

-- name: lock
SELECT d.state, d.channel, n.category
FROM delivery AS d JOIN notification AS n USING (notification_id)
WHERE d.delivery_id = $1 FOR UPDATE OF d;

-- name: resend
UPDATE delivery SET state = 'pending', reason = 'asked-again', due_at = now(), attempts = 0, lease_until = NULL,
    expires_at = greatest(expires_at, now() + $2::interval), forced = true, by_staff = true,
    history = history || jsonb_build_array(
        jsonb_build_object('at', now(), 'state', 'pending', 'reason', 'asked-again', 'by', $3::text))
WHERE delivery_id = $1;

-- name: cancel
UPDATE delivery SET state = 'skipped', reason = 'cancelled', lease_until = NULL, by_staff = true,
    history = history || jsonb_build_array(
        jsonb_build_object('at', now(), 'state', 'skipped', 'reason', 'cancelled', 'by', $2::text))
WHERE delivery_id = $1;

-- name: suppressions
SELECT suppression_id, channel, address, member_id, reason, at FROM suppression
WHERE ($1::bigint IS NULL OR suppression_id < $1)
ORDER BY suppression_id DESC LIMIT $2;

-- name: lift
DELETE FROM suppression WHERE suppression_id = $1 RETURNING true;

-- name: providers
SELECT name, channel, CASE WHEN open_until > now() THEN 'open' ELSE 'closed' END AS state, failures, open_until, reason,
    accepted_at, at
FROM provider ORDER BY channel, name;

-- name: write_provider
INSERT INTO provider AS p (name, channel, failures, open_until, reason, accepted_at)
VALUES ($1, $2, $3, CASE WHEN $4::float8 > 0 THEN now() + make_interval(secs => $4) END, $5, CASE WHEN $6 THEN now() END)
ON CONFLICT (name) DO UPDATE SET channel = excluded.channel, failures = excluded.failures,
    open_until = excluded.open_until, reason = excluded.reason,
    accepted_at = coalesce(excluded.accepted_at, p.accepted_at), at = now();

-- name: mails
SELECT mail_id, delivery_id, member_id, address, subject, category, sent_at FROM mail
WHERE ($1::text[] IS NULL OR member_id = ANY($1)) AND ($2::bigint IS NULL OR mail_id < $2)
ORDER BY mail_id DESC LIMIT $3;

-- name: mail
SELECT mail_id, delivery_id, member_id, address, subject, category, sent_at, raw FROM mail WHERE mail_id = $1;

-- name: waiting
SELECT c.channel, (
    SELECT count(*)::int FROM (
        SELECT FROM delivery AS d WHERE d.channel = c.channel AND d.state IN ('pending', 'retry') LIMIT 1000
    ) AS counted
) AS waiting
FROM (VALUES ('email'), ('push')) AS c (channel);

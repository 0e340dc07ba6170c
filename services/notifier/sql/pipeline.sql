-- name: due
-- Which lanes have something to do.
SELECT l.channel, l.urgent
FROM unnest($1::text[], $2::boolean[]) AS l (channel, urgent)
WHERE EXISTS (
    SELECT FROM unnest(CASE WHEN l.urgent THEN $3::smallint[] ELSE $4::smallint[] END) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT FROM delivery AS d
        WHERE d.channel = l.channel AND d.priority = p.priority AND d.due_at <= now() AND d.state IN ('pending', 'retry')
        LIMIT 1
    ) AS one
);

-- name: notification_columns
n.category, n.what, n.data, n.at, n.actor_id, n.traceparent, {topic_columns}, actor.name AS actor_name

-- name: notification_joins
{topic_joins}
LEFT JOIN member AS actor ON actor.member_id = n.actor_id

-- name: claim
-- The most urgent that is due, past what others have locked. With all that decisions depend on but the member.
WITH first AS (
    SELECT p.priority FROM unnest($2::smallint[]) AS p (priority)
    WHERE EXISTS (
        SELECT FROM delivery AS d
        WHERE d.channel = $1 AND d.priority = p.priority AND d.due_at <= now() AND d.state IN ('pending', 'retry')
    )
    ORDER BY p.priority LIMIT 1
), chosen AS MATERIALIZED (
    SELECT d.* FROM delivery AS d
    WHERE d.channel = $1 AND d.priority = (SELECT priority FROM first) AND d.due_at <= now()
        AND d.state IN ('pending', 'retry')
    ORDER BY d.due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
SELECT d.delivery_id, d.notification_id, d.member_id, d.channel, d.target, d.due_at, d.expires_at, d.attempts,
    d.reason, d.made_at, pg_current_xact_id()::text::bigint AS fence, clock_timestamp() AS now,
    d.forced, {notification}
FROM chosen AS d
JOIN notification AS n USING (notification_id)
{joins}
ORDER BY d.delivery_id;

-- name: digest_items
SELECT i.digest_id, 0::bigint AS delivery_id, n.notification_id, n.member_id, 'email' AS channel, 0::bigint AS target,
    n.made_at AS due_at, n.expires_at, 0 AS attempts, NULL::text AS reason, n.made_at, 0::bigint AS fence,
    clock_timestamp() AS now, false AS forced, {notification}
FROM unnest($1::bigint[]) AS g (digest_id)
JOIN digest_item AS i USING (digest_id)
JOIN notification AS n USING (notification_id)
{joins};

-- name: write_decisions
UPDATE delivery AS d SET state = given.state, reason = given.reason, due_at = given.due_at, fence = given.fence,
    lease_until = CASE WHEN given.state = 'leased' THEN $1::timestamptz END, history = d.history || given.entries
FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::jsonb[])
    AS given (delivery_id, fence, state, reason, due_at, entries)
WHERE d.delivery_id = given.delivery_id;

-- name: spend
-- Every notification takes from its member's day at first, as nearly all of them are sent. Returns what was told before.
INSERT INTO spent AS s (member_id, day, told)
SELECT member_id, day, array_agg(notification_id)
FROM unnest($1::text[], $2::date[], $3::bigint[]) AS given (member_id, day, notification_id)
GROUP BY member_id, day
ORDER BY member_id, day
ON CONFLICT (member_id, day) DO UPDATE SET told = ARRAY(SELECT unnest(s.told) UNION SELECT unnest(excluded.told))
RETURNING s.member_id, coalesce(old.told, '{}') AS told;

-- name: give_back
UPDATE spent AS s SET told = ARRAY(SELECT unnest(s.told) EXCEPT SELECT unnest(given.unspent))
FROM (
    SELECT member_id, day, array_agg(notification_id) AS unspent
    FROM unnest($1::text[], $2::date[], $3::bigint[]) AS given (member_id, day, notification_id)
    GROUP BY member_id, day
) AS given
WHERE s.member_id = given.member_id AND s.day = given.day;

-- name: open_digests
INSERT INTO digest AS d (member_id, first_at, closes_at)
SELECT member_id, $3, closes_at FROM unnest($1::text[], $2::timestamptz[]) AS given (member_id, closes_at)
ON CONFLICT (member_id) WHERE closed_at IS NULL DO UPDATE SET member_id = excluded.member_id
RETURNING d.digest_id, d.member_id;

-- name: write_digest_items
INSERT INTO digest_item (digest_id, notification_id) SELECT * FROM unnest($1::bigint[], $2::bigint[])
ON CONFLICT DO NOTHING;

-- name: release
UPDATE delivery AS d SET state = 'pending', lease_until = NULL
FROM unnest($1::bigint[], $2::bigint[]) AS given (delivery_id, fence)
WHERE d.delivery_id = given.delivery_id AND d.fence = given.fence AND d.state = 'leased';

-- name: renew
UPDATE delivery AS d SET lease_until = clock_timestamp() + $3::interval
FROM unnest($1::bigint[], $2::bigint[]) AS given (delivery_id, fence)
WHERE d.delivery_id = given.delivery_id AND d.fence = given.fence AND d.state IN ('leased', 'sending');

-- name: write_sending
UPDATE delivery AS d SET state = 'sending', lease_until = clock_timestamp() + $4::interval, address = given.address,
    history = d.history || jsonb_build_array(jsonb_build_object('at', clock_timestamp(), 'state', 'sending'))
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS given (delivery_id, fence, address)
WHERE d.delivery_id = given.delivery_id AND d.fence = given.fence AND d.state = 'leased'
    AND d.lease_until > clock_timestamp()
RETURNING d.delivery_id;

-- name: lock_and_look
-- The facts' shared lock, and what time it is.
SELECT clock_timestamp() FROM (SELECT pg_advisory_xact_lock_shared(4829119, hashtext(current_schema))) AS locked;

-- name: write_results
-- Only the fence counts: what is known is better than what the sweeper had to suppose meanwhile.
UPDATE delivery AS d SET state = given.state, reason = given.reason, due_at = given.due_at, attempts = given.attempts,
    lease_until = NULL, provider = given.provider, address = coalesce(given.address, d.address),
    history = d.history || given.entries
FROM unnest(
    $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::int[], $8::text[], $9::text[], $10::jsonb[]
) AS given (delivery_id, fence, state, reason, due_at, attempts, provider, address, entries)
WHERE d.delivery_id = given.delivery_id AND d.fence = given.fence AND $1::timestamptz IS NOT NULL
RETURNING d.delivery_id, d.state, d.reason;

-- name: write_suppressions
INSERT INTO suppression (channel, address, member_id, reason)
SELECT DISTINCT ON (channel, address) * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    AS given (channel, address, member_id, reason)
ORDER BY channel, address, member_id
ON CONFLICT (channel, address) DO NOTHING;

-- name: forget_subscriptions
DELETE FROM push_subscription WHERE subscription_id = ANY($1::bigint[]);

-- name: strike_subscriptions
UPDATE push_subscription SET
    strikes = CASE WHEN struck_at > now() - interval '24 hours' THEN strikes + 1 ELSE 1 END,
    struck_at = CASE WHEN struck_at > now() - interval '24 hours' THEN struck_at ELSE now() END
WHERE subscription_id = ANY($1::bigint[]);

-- name: end_struck_subscriptions
-- Three refusals within a day end a subscription only where its push service took others meanwhile: else it is our key
-- that is bad, and everyone would go.
DELETE FROM push_subscription AS s
WHERE s.subscription_id = ANY($1::bigint[]) AND s.strikes >= 3 AND EXISTS (
    SELECT FROM provider AS p
    WHERE p.name = substring(s.endpoint FROM '^[a-z]+://[^/]+') AND p.accepted_at > s.struck_at
);

-- name: write_mails
INSERT INTO mail (delivery_id, member_id, address, subject, category, named, raw)
SELECT delivery_id, member_id, address, subject, category,
    ARRAY(SELECT jsonb_array_elements_text(named)), raw
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::bytea[])
    AS given (delivery_id, member_id, address, subject, category, named, raw)
ON CONFLICT (delivery_id) DO NOTHING;

-- name: recipients
-- Preferences, address and standing of members, by the account that theirs stands for.
SELECT g.asked_for, coalesce(a.root, g.asked_for) AS member_id, coalesce(p.locale, m.locale) AS locale,
    coalesce(p.time_zone, m.time_zone) AS time_zone, m.name, m.status, coalesce(p.channels, '{}') AS channels,
    p.quiet_start, p.quiet_end, CASE WHEN p.member_id IS NULL THEN 5 ELSE p.daily_budget END AS daily_budget,
    coalesce(p.digest, 'off') AS digest, coalesce(p.digest_at, '09:00') AS digest_at,
    coalesce(p.digest_day, 1) AS digest_day, p.paused_until, coalesce(p.staff, false) AS staff,
    coalesce(i.muted, '[]') AS muted, coalesce(o.email, c.email) AS email, s.reason AS suppressed,
    coalesce(u.push, '{}') AS push
FROM unnest($1::text[]) AS g (asked_for)
LEFT JOIN alias AS a ON a.what = 'member' AND a.id = g.asked_for
LEFT JOIN preference AS p ON p.member_id = coalesce(a.root, g.asked_for)
LEFT JOIN member AS m ON m.member_id = coalesce(a.root, g.asked_for)
LEFT JOIN own_contact AS o ON o.member_id = coalesce(a.root, g.asked_for)
LEFT JOIN contact AS c ON c.member_id = coalesce(a.root, g.asked_for)
LEFT JOIN suppression AS s ON s.channel = 'email' AND s.address = lower(coalesce(o.email, c.email))
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(what, value)) AS muted FROM interest
    WHERE interest.member_id = coalesce(a.root, g.asked_for) AND muted
) AS i ON true
LEFT JOIN LATERAL (
    SELECT array_agg(subscription_id ORDER BY subscription_id) AS push FROM push_subscription
    WHERE push_subscription.member_id = coalesce(a.root, g.asked_for)
) AS u ON true;

-- name: topic_columns
-- What is known of the topic of n at the moment.
n.topic_id, t.title, t.url, t.space, t.language, t.tags,
    t.closed_at IS NOT NULL AND NOT coalesce(t.reopened_at > t.closed_at, false) AS closed,
    t.deleted_at IS NOT NULL AND NOT coalesce(t.restored_at > t.deleted_at, false) AS deleted,
    x.root IS NOT NULL AS merged, w.answered_at, w.claimed_by, w.claimed_until

-- name: topic_joins
LEFT JOIN topic AS t ON t.topic_id = n.topic_id
LEFT JOIN topic_now AS w ON w.topic_id = n.topic_id
LEFT JOIN alias AS x ON x.what = 'topic' AND x.id = n.topic_id

-- name: topics
SELECT {topic_columns} FROM unnest($1::text[]) AS n (topic_id) {topic_joins};

-- name: write_notifications
INSERT INTO notification (
    dedupe_key, member_id, category, what, topic_id, actor_id, data, at, expires_at, in_inbox, traceparent
)
SELECT * FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::timestamptz[],
    $9::timestamptz[], $10::boolean[], $11::text[]
)
ON CONFLICT (dedupe_key) DO NOTHING
RETURNING dedupe_key, notification_id;

-- name: write_deliveries
INSERT INTO delivery (notification_id, member_id, priority, due_at, expires_at, channel, target, state, reason, history)
SELECT notification_id, member_id, priority, due_at, expires_at, channel, target, state, reason,
    jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('at', due_at, 'state', state, 'reason', reason)))
FROM unnest(
    $1::bigint[], $2::text[], $3::smallint[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::bigint[],
    $8::text[], $9::text[]
) AS given (notification_id, member_id, priority, due_at, expires_at, channel, target, state, reason)
ON CONFLICT DO NOTHING;

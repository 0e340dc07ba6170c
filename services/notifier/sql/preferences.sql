-- name: ensure
INSERT INTO preference (member_id) VALUES ($1) ON CONFLICT (member_id) DO NOTHING;

-- name: lock
SELECT * FROM preference WHERE member_id = $1 FOR UPDATE;

-- name: write
UPDATE preference SET locale = $2, time_zone = $3, channels = $4, quiet_start = $5, quiet_end = $6, daily_budget = $7,
    digest = $8, digest_at = $9, digest_day = $10, paused_until = $11, staff = $12, changed_at = now()
WHERE member_id = $1;

-- name: interests
SELECT what, value, muted FROM interest WHERE member_id = $1 ORDER BY what, value;

-- name: drop_interests
DELETE FROM interest AS i USING unnest($2::text[], $3::boolean[]) AS given (what, muted)
WHERE i.member_id = $1 AND i.what = given.what AND i.muted = given.muted;

-- name: write_interests
INSERT INTO interest AS i (member_id, what, value, muted)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::boolean[]) AS given (what, value, muted)
ORDER BY what, value
ON CONFLICT (member_id, what, value) DO UPDATE SET muted = excluded.muted;

-- name: wake_deferred
-- What was put off, or waits for its turn, is decided again under the new rules.
UPDATE delivery SET due_at = now()
WHERE delivery_id IN (
    SELECT delivery_id FROM delivery WHERE member_id = $1 AND state = 'pending'
    ORDER BY delivery_id FOR UPDATE
);

-- name: lock_digest
SELECT digest_id, first_at FROM digest WHERE member_id = $1 AND closed_at IS NULL FOR UPDATE;

-- name: move_digest
UPDATE digest SET closes_at = $2 WHERE digest_id = $1 AND closed_at IS NULL;

-- name: read
SELECT o.email AS own_email, c.email AS forum_email, o.pending_email, s.reason AS suppressed
FROM (SELECT $1::text AS member_id) AS g
LEFT JOIN own_contact AS o USING (member_id)
LEFT JOIN contact AS c USING (member_id)
LEFT JOIN suppression AS s ON s.channel = 'email' AND s.address = lower(coalesce(o.email, c.email));

-- name: ensure
INSERT INTO own_contact (member_id) VALUES ($1) ON CONFLICT (member_id) DO NOTHING;

-- name: lock
SELECT * FROM own_contact WHERE member_id = $1 FOR UPDATE;

-- name: forget
UPDATE own_contact SET email = NULL, verified_at = NULL, pending_email = NULL WHERE member_id = $1;

-- name: settle
UPDATE own_contact SET pending_email = NULL WHERE member_id = $1;

-- name: ask
UPDATE own_contact SET pending_email = $2, asked_at = $3, asked = $4 WHERE member_id = $1;

-- name: verify
-- Whoever uses the link twice finds it verified.
UPDATE own_contact SET email = $2, verified_at = coalesce(CASE WHEN email = $2 THEN verified_at END, now()),
    pending_email = NULL
WHERE member_id = $1 AND (pending_email = $2 OR (email = $2 AND verified_at IS NOT NULL))
RETURNING true;

-- name: lift
-- Somebody is there after all.
DELETE FROM suppression WHERE channel = 'email' AND address = $2 AND member_id = $1;

-- name: wake_waiting
UPDATE delivery SET due_at = now()
WHERE delivery_id IN (
    SELECT delivery_id FROM delivery
    WHERE member_id = $1 AND channel = 'email' AND state = 'pending'
    ORDER BY delivery_id FOR UPDATE
);

-- name: lock
SELECT d.delivery_id, d.member_id, d.channel, d.state, d.address, n.category
FROM delivery AS d JOIN notification AS n USING (notification_id)
WHERE d.delivery_id = $1 FOR UPDATE OF d;

-- name: write
UPDATE delivery SET state = $2, reason = CASE WHEN $5 THEN $4 ELSE reason END,
    history = history || jsonb_build_array(
        jsonb_build_object('at', now(), 'state', $2::text, 'reason', $4::text, 'detail', 'bounce: ' || $3::text))
WHERE delivery_id = $1;

-- name: suppress
INSERT INTO suppression (channel, address, member_id, reason) VALUES ($1, $2, $3, $4)
ON CONFLICT (channel, address) DO NOTHING RETURNING true;

-- name: load
SELECT state::text FROM discourse_poll WHERE instance = $1;

-- name: lock_all
SELECT instance, state::text FROM discourse_poll ORDER BY instance FOR UPDATE;

-- name: update
UPDATE discourse_poll SET state = $2::text::jsonb WHERE instance = $1;

-- name: save
INSERT INTO discourse_poll (instance, state, polled_at) VALUES ($1, $2::text::jsonb, $3)
ON CONFLICT (instance) DO UPDATE SET state = excluded.state, polled_at = excluded.polled_at;

-- name: lock
LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE;

-- name: read
SELECT key_id, purpose, secret FROM signing_key ORDER BY key_id;

-- name: write
INSERT INTO signing_key (purpose, secret) VALUES ($1, $2);

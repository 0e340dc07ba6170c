-- name: lock_member
SELECT pg_advisory_xact_lock(4829122, hashtext($1));

-- name: aliases_of
SELECT id FROM alias WHERE what = 'member' AND root = $1 ORDER BY id;

-- name: names
SELECT member_id, name FROM member WHERE member_id = ANY($1::text[]) AND name IS NOT NULL AND name <> '';

-- name: spaces
SELECT space, sum(replies)::int AS replies FROM contribution WHERE member_id = $1 AND space <> ''
GROUP BY space ORDER BY sum(replies) DESC, space LIMIT 50;

-- name: root_of
SELECT coalesce((SELECT root FROM alias WHERE what = 'member' AND id = $1::text), $1);

-- name: is_erased
SELECT EXISTS (SELECT FROM erased WHERE stand_in = $1);

-- name: is_hidden
SELECT EXISTS (
    SELECT FROM hidden WHERE member_id = $1
        OR member_id IN (SELECT id FROM alias WHERE what = 'member' AND root = $1)
);

-- name: hide
INSERT INTO hidden (member_id) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: show
DELETE FROM hidden WHERE member_id = $1 OR member_id IN (SELECT id FROM alias WHERE what = 'member' AND root = $1);

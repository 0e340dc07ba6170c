-- name: root_of
SELECT coalesce((SELECT root FROM alias WHERE what = 'member' AND id = $1::text), $1);

-- name: is_erased
-- $1 the stand-in that this id ($2) would have: of them or, with an account merged into theirs, of whom it stands for.
SELECT EXISTS (
    SELECT FROM erased WHERE stand_in IN ($1, (SELECT root FROM alias WHERE what = 'member' AND id = $2::text))
);

-- name: is_hidden
SELECT EXISTS (
    SELECT FROM hidden WHERE member_id = $1
        OR member_id IN (SELECT id FROM alias WHERE what = 'member' AND root = $1)
);

-- name: hide
INSERT INTO hidden (member_id) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: show
DELETE FROM hidden WHERE member_id = $1 OR member_id IN (SELECT id FROM alias WHERE what = 'member' AND root = $1);

-- name: of_members
-- Of a member's ids the membership that goes on, else the latest.
SELECT * FROM membership WHERE member_id = ANY($1::text[]) ORDER BY state = 'retired', since DESC, member_id LIMIT 1;

-- name: lock
SELECT * FROM membership WHERE member_id = ANY($1::text[]) AND state <> 'retired'
ORDER BY since DESC, member_id LIMIT 1 FOR UPDATE;

-- name: of_each
-- The same for each of several members, and when they retired last.
SELECT g.id AS person, m.*
FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT member_id, state, max(retired_at) OVER () AS retired_at FROM membership WHERE member_id = ANY(array(
        SELECT g.id UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = g.id
    )) ORDER BY state = 'retired', since DESC, member_id LIMIT 1
) AS m;

-- name: appoint
INSERT INTO membership (member_id, rank, since, term_ends, spaces, languages, listed, state)
SELECT *, 'active' FROM unnest(
    $1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::jsonb[], $6::jsonb[], $7::boolean[]
) AS given (member_id)
ORDER BY given.member_id
ON CONFLICT (member_id) DO UPDATE SET state = 'active', rank = excluded.rank, since = excluded.since,
    term_ends = excluded.term_ends, grace_ends = NULL, leave_since = NULL, leave_until = NULL, retired_at = NULL,
    spaces = excluded.spaces, languages = excluded.languages, listed = excluded.listed;

-- name: log
INSERT INTO membership_change (member_id, at, what, rank, by_id, detail) VALUES ($1, $2, $3, $4, $5, $6);

-- name: log_appointed
INSERT INTO membership_change (member_id, at, what, rank, by_id)
SELECT member_id, at, 'appointed', rank, $4
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS given (member_id, rank, at) ORDER BY member_id;

-- name: retire
-- Of a member's ids every membership that goes on.
UPDATE membership SET state = 'retired', retired_at = now(), listed = false, term_ends = NULL, grace_ends = NULL,
    leave_since = NULL, leave_until = NULL
WHERE member_id = ANY($1::text[]) AND state <> 'retired' RETURNING member_id, rank, retired_at;

-- name: leave
-- Grace, where they are in it, stays as it is: it goes on after the leave.
UPDATE membership SET state = 'leave', leave_since = now(), leave_until = $2 WHERE member_id = $1;

-- name: write
UPDATE membership SET state = $2, rank = $3, term_ends = $4, grace_ends = $5, leave_since = NULL, leave_until = NULL
WHERE member_id = $1;

-- name: describe
UPDATE membership SET listed = $2, about = $3, spaces = $4::jsonb, languages = $5::jsonb WHERE member_id = $1;

-- name: due
SELECT * FROM membership AS m
WHERE (CASE state WHEN 'active' THEN term_ends WHEN 'grace' THEN grace_ends WHEN 'leave' THEN leave_until END) <= now()
    AND EXISTS (SELECT FROM star AS s WHERE s.member_id = m.member_id)
ORDER BY (CASE state WHEN 'active' THEN term_ends WHEN 'grace' THEN grace_ends WHEN 'leave' THEN leave_until END)
LIMIT $1 FOR UPDATE SKIP LOCKED;

-- name: directory
SELECT m.*, s.person
FROM membership AS m JOIN star AS s USING (member_id)
WHERE m.state <> 'retired' AND (m.listed OR $1)
    AND ($2::text IS NULL OR m.spaces ? $2) AND ($3::text IS NULL OR m.languages ? $3)
    AND ($4::timestamptz IS NULL OR (m.since, m.member_id) > ($4, $5::text))
ORDER BY m.since, m.member_id LIMIT $6;

-- name: history
SELECT at, what, rank, detail FROM membership_change WHERE member_id = ANY($1::text[]) ORDER BY at, change_id;

-- name: words
-- What the directory can be narrowed by: the spaces and languages of those who want to be found.
SELECT 'space' AS kind, w AS word, count(*) AS count
FROM membership JOIN star USING (member_id), jsonb_array_elements_text(spaces) AS w WHERE listed GROUP BY w
UNION ALL
SELECT 'language', w, count(*)
FROM membership JOIN star USING (member_id), jsonb_array_elements_text(languages) AS w WHERE listed GROUP BY w
ORDER BY 1, 2 LIMIT 200;

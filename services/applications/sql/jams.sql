-- name: season_is_closed
SELECT EXISTS (SELECT FROM season WHERE season_id = $1 AND closed_at IS NOT NULL);

-- name: make
INSERT INTO jam (jam_id, name, place, starts_on, ends_on, season_id, seats, answer_days, rest_editions, most_per_space,
    consent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: lock
SELECT *, starts_on <= (now() AT TIME ZONE 'UTC')::date AS has_begun FROM jam WHERE jam_id = $1 FOR UPDATE;

-- name: lock_several
SELECT *, starts_on <= (now() AT TIME ZONE 'UTC')::date AS has_begun FROM jam
WHERE jam_id = ANY($1::text[]) ORDER BY jam_id FOR UPDATE;

-- name: lock_inviting
SELECT pg_advisory_xact_lock(4829123, hashtext(current_schema));

-- name: standings
-- In the order of the season's tie rule, by whom each stands for now; who was erased is nobody to invite.
SELECT coalesce(a.root, s.member_id) AS member_id, s.rank, s.points,
    (SELECT c.space FROM contribution AS c WHERE c.member_id = coalesce(a.root, s.member_id) AND c.space <> ''
        GROUP BY c.space ORDER BY sum(c.replies) DESC, c.space LIMIT 1) AS space,
    EXISTS (SELECT FROM membership AS m WHERE m.state <> 'retired' AND (m.member_id = coalesce(a.root, s.member_id)
        OR m.member_id IN (SELECT o.id FROM alias AS o WHERE o.what = 'member' AND o.root = coalesce(a.root, s.member_id))))
        AS is_star
FROM season_standing AS s LEFT JOIN alias AS a ON a.what = 'member' AND a.id = s.member_id
WHERE s.season_id = $1 AND NOT EXISTS (SELECT FROM erased AS e WHERE e.stand_in = coalesce(a.root, s.member_id))
ORDER BY s.place;

-- name: invited_lately
-- Who was invited to one of the $3 Jams before this one, and to which.
WITH before AS (
    SELECT jam_id, name, starts_on FROM jam
    WHERE jam_id <> $1 AND starts_on <= $2 AND state <> 'planned' ORDER BY starts_on DESC, jam_id LIMIT $3
)
SELECT DISTINCT ON (member_id) coalesce(a.root, g.member_id) AS member_id, b.name
FROM before AS b JOIN jam_guest AS g USING (jam_id)
LEFT JOIN alias AS a ON a.what = 'member' AND a.id = g.member_id
WHERE g.invited_at IS NOT NULL
ORDER BY member_id, b.starts_on DESC;

-- name: clear
DELETE FROM jam_guest WHERE jam_id = $1;

-- name: write_guests
INSERT INTO jam_guest (jam_id, member_id, place, rank, points, space, state, why)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::int[], $5::bigint[], $6::text[], $7::text[], $8::text[]);

-- name: guests
SELECT * FROM jam_guest WHERE jam_id = $1 ORDER BY place;

-- name: pass_over_who_left
UPDATE jam_guest AS g SET state = 'passed-over', why = why || '; a Star no more when a place came free'
WHERE jam_id = $1 AND state = 'waiting' AND NOT EXISTS (
    SELECT FROM membership AS m WHERE m.state <> 'retired' AND (m.member_id = g.member_id
        OR m.member_id IN (SELECT o.id FROM alias AS o WHERE o.what = 'member' AND o.root = g.member_id)
        OR m.member_id = (SELECT o.root FROM alias AS o WHERE o.what = 'member' AND o.id = g.member_id))
);

-- name: pass_over_who_rests
-- Of whom $2 was invited to $3 since the list was made.
UPDATE jam_guest AS g SET state = 'passed-over', why = why || '; invited to ' || given.jam || ' since then'
FROM unnest($2::text[], $3::text[]) AS given (member_id, jam)
WHERE g.jam_id = $1 AND g.state = 'waiting' AND given.member_id = coalesce(
    (SELECT a.root FROM alias AS a WHERE a.what = 'member' AND a.id = g.member_id), g.member_id
);

-- name: invite
-- $3 days to answer, but none after the Jam's first day has begun.
WITH invited AS (
    UPDATE jam_guest SET state = 'invited', invited_at = now(),
        answer_by = least(now() + $3::int * interval '1 day', $4::date::timestamp AT TIME ZONE 'UTC')
    WHERE jam_id = $1 AND member_id = ANY($2::text[]) AND state = 'waiting'
    RETURNING place, member_id, invited_at, answer_by
)
SELECT member_id, invited_at, answer_by FROM invited ORDER BY place;

-- name: set_state
UPDATE jam SET state = $2 WHERE jam_id = $1;

-- name: set_seats
UPDATE jam SET seats = $2 WHERE jam_id = $1;

-- name: invited
SELECT *, answer_by <= now() AS late,
    EXISTS (SELECT FROM membership AS m WHERE m.member_id = ANY($2::text[]) AND m.state <> 'retired') AS is_star
FROM jam_guest
WHERE jam_id = $1 AND member_id = ANY($2::text[]) AND invited_at IS NOT NULL ORDER BY place LIMIT 1;

-- name: answer
UPDATE jam_guest SET state = $3, answered_at = now(), consented = $4, travel_notes = $5
WHERE jam_id = $1 AND member_id = $2 RETURNING answered_at;

-- name: due
SELECT *, starts_on <= (now() AT TIME ZONE 'UTC')::date AS has_begun FROM jam WHERE state = 'inviting' AND EXISTS (
    SELECT FROM jam_guest AS g WHERE g.jam_id = jam.jam_id AND g.state = 'invited' AND g.answer_by <= now()
) ORDER BY jam_id LIMIT $1 FOR UPDATE SKIP LOCKED;

-- name: lapse
UPDATE jam_guest SET state = 'lapsed', answered_at = answer_by
WHERE jam_id = $1 AND state = 'invited' AND answer_by <= now() RETURNING member_id, answer_by, answered_at;

-- name: attend
UPDATE jam_guest SET attended = $3 WHERE jam_id = $1 AND member_id = ANY($2::text[]) AND state = 'accepted' RETURNING true;

-- name: end_due
UPDATE jam SET state = 'over' WHERE state = 'inviting' AND ends_on < (now() AT TIME ZONE 'UTC')::date RETURNING jam_id;

-- name: forget_notes
WITH over AS (
    UPDATE jam SET notes_erased = true, state = 'over'
    WHERE NOT notes_erased AND ends_on + $1::int < (now() AT TIME ZONE 'UTC')::date RETURNING jam_id
)
UPDATE jam_guest AS g SET travel_notes = NULL FROM over WHERE g.jam_id = over.jam_id RETURNING g.jam_id;

-- name: jams
SELECT j.*, o.state AS own_state, o.answer_by AS own_answer_by, o.answered_at AS own_answered_at,
    o.travel_notes AS own_notes, c.*
FROM jam AS j
LEFT JOIN LATERAL (
    SELECT * FROM jam_guest AS g
    WHERE g.jam_id = j.jam_id AND g.member_id = ANY($1::text[]) AND g.invited_at IS NOT NULL LIMIT 1
) AS o ON true
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE g.state = 'accepted') AS accepted, count(*) FILTER (WHERE g.state = 'invited') AS invited,
        count(*) FILTER (WHERE g.state = 'waiting') AS waiting
    FROM jam_guest AS g WHERE g.jam_id = j.jam_id
) AS c
WHERE j.state <> 'planned' OR $2
ORDER BY j.starts_on DESC, j.jam_id LIMIT 100;

-- name: jam
SELECT j.*, c.* FROM jam AS j
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE g.state = 'accepted') AS accepted, count(*) FILTER (WHERE g.state = 'invited') AS invited,
        count(*) FILTER (WHERE g.state = 'waiting') AS waiting
    FROM jam_guest AS g WHERE g.jam_id = j.jam_id
) AS c
WHERE j.jam_id = $1;

-- name: erase
DELETE FROM jam_guest WHERE member_id = ANY($1::text[]) RETURNING jam_id;

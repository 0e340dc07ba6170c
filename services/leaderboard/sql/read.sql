-- What people wait for: each one indexed query, whatever the size.

-- name: place
-- $1 the board, $2 the kind of window, $3 a local date (default today there) or $4 a period's number.
WITH place AS (
    SELECT b.board_no, d.day, coalesce($4::int, period_of($2::int, d.day)) AS period
    FROM (SELECT coalesce((SELECT name FROM time_zone WHERE board = $1::text), 'UTC') AS zone) AS z
    CROSS JOIN LATERAL (SELECT coalesce($3::date, (now() AT TIME ZONE z.zone)::date) AS day) AS d
    LEFT JOIN board AS b ON b.epoch = (SELECT current FROM epoch) AND b.board = $1
)

-- name: page
-- From the row after ($6 points, $7 solutions, $8 reached_at, $9 member_id) on; each with how many have its points.
SELECT p.day, s.member_id, s.points, s.solutions, s.reached_at, m.name,
    (SELECT members FROM score AS c
    WHERE c.board_no = p.board_no AND c.period = p.period AND c.points = s.points) AS tied,
    CASE WHEN s.n = 1 THEN members_above(p.board_no, p.period, s.points) END AS above
FROM place AS p
LEFT JOIN LATERAL (
    SELECT member_id, points, solutions, reached_at, row_number() OVER () AS n
    FROM (
        SELECT member_id, points, solutions, reached_at FROM standing
        WHERE board_period(board_no, period) = board_period(p.board_no, p.period) AND listed {after}
        ORDER BY (-points), (-solutions), reached_at, member_id LIMIT $5
    ) AS found
) AS s ON true
LEFT JOIN LATERAL (SELECT name FROM member WHERE member.member_id = s.member_id OFFSET 0) AS m ON true
ORDER BY s.n

-- name: after
AND ((-points), (-solutions), reached_at, member_id) > (-$6::bigint, -$7::int, $8::timestamptz, $9::text)

-- name: around
-- A member ($5, by whom they stand for) with $6 neighbours on each side, in order.
, me AS (
    SELECT p.day, s.* FROM place AS p JOIN standing AS s ON s.board_no = p.board_no AND s.period = p.period
    WHERE s.member_id = coalesce((SELECT root FROM alias WHERE what = 'member' AND id = $5::text), $5) AND s.listed
), neighbour AS (
    SELECT me.member_id, me.points, me.solutions, me.reached_at FROM me
    UNION ALL
    SELECT b.* FROM me CROSS JOIN LATERAL (
        SELECT member_id, points, solutions, reached_at FROM standing AS s
        WHERE board_period(s.board_no, s.period) = board_period(me.board_no, me.period) AND s.listed
            AND ((-s.points), (-s.solutions), s.reached_at, s.member_id)
                < ((-me.points), (-me.solutions), me.reached_at, me.member_id)
        ORDER BY (-s.points) DESC, (-s.solutions) DESC, s.reached_at DESC, s.member_id DESC LIMIT $6
    ) AS b
    UNION ALL
    SELECT a.* FROM me CROSS JOIN LATERAL (
        SELECT member_id, points, solutions, reached_at FROM standing AS s
        WHERE board_period(s.board_no, s.period) = board_period(me.board_no, me.period) AND s.listed
            AND ((-s.points), (-s.solutions), s.reached_at, s.member_id)
                > ((-me.points), (-me.solutions), me.reached_at, me.member_id)
        ORDER BY (-s.points), (-s.solutions), s.reached_at, s.member_id LIMIT $6
    ) AS a
)
SELECT me.day, n.*, m.name, n.member_id = me.member_id AS is_me,
    (SELECT members FROM score AS c
    WHERE c.board_no = me.board_no AND c.period = me.period AND c.points = n.points) AS tied,
    CASE WHEN row_number() OVER (ORDER BY (-n.points), (-n.solutions), n.reached_at, n.member_id) = 1
        THEN members_above(me.board_no, me.period, n.points) END AS above,
    (SELECT sum(members) FROM score_block AS c WHERE c.board_no = me.board_no AND c.period = me.period) AS members
FROM me CROSS JOIN neighbour AS n
LEFT JOIN LATERAL (SELECT name FROM member WHERE member.member_id = n.member_id OFFSET 0) AS m ON true
ORDER BY (-n.points), (-n.solutions), n.reached_at, n.member_id

-- name: moved
-- How these members ($5) stand now; null where they do not. Of who is not to be seen nothing is said.
SELECT g.id AS member_id, s.points, s.solutions, m.name, members_above(p.board_no, p.period, s.points) + 1 AS rank
FROM place AS p CROSS JOIN unnest($5::text[]) AS g (id)
LEFT JOIN standing AS s ON s.member_id = g.id AND s.board_no = p.board_no AND s.period = p.period AND s.listed
LEFT JOIN LATERAL (SELECT name FROM member WHERE member.member_id = s.member_id OFFSET 0) AS m ON true
WHERE NOT EXISTS (SELECT FROM unlisted AS u WHERE u.member_id = g.id)

-- name: season
SELECT season_no, season_id, name, board, start_on, end_on, opened_at, closed_at FROM season WHERE season_id = $1;

-- name: latest_season
-- The one that opened last among those that are open, else among the closed.
SELECT season_no, season_id, name, board, start_on, end_on, opened_at, closed_at FROM season
ORDER BY closed_at IS NOT NULL, season_no DESC LIMIT 1;

-- name: seasons
SELECT season_no, season_id, name, board, start_on, end_on, opened_at, closed_at FROM season
WHERE $1::int IS NULL OR season_no < $1 ORDER BY season_no DESC LIMIT $2;

-- name: frozen_page
-- Of a closed season ($1) on a board ($2) the places after $3; who was erased or opted out since is withdrawn.
SELECT s.place, s.rank, s.member_id, s.points, s.solutions, m.name, {withdrawn} AS withdrawn
FROM season_standing AS s
LEFT JOIN member AS m ON m.member_id = s.member_id
WHERE s.season_no = $1 AND s.board = $2 AND s.place > $3
ORDER BY s.place LIMIT $4

-- name: frozen_around
-- A member ($3, by whom they stand for) with $4 neighbours on each side; of several accounts the one with the best place.
WITH who AS (SELECT coalesce((SELECT root FROM alias WHERE what = 'member' AND id = $3::text), $3) AS root)
SELECT s.place, s.rank, s.member_id, s.points, s.solutions, m.name, {withdrawn} AS withdrawn,
    s.place = me.place AS is_me,
    (SELECT max(place) FROM season_standing AS a WHERE a.season_no = $1 AND a.board = $2) AS members
FROM (
    SELECT s.place FROM season_standing AS s
    WHERE s.season_no = $1 AND s.board = $2 AND NOT {withdrawn} AND s.member_id = ANY(ARRAY(
        SELECT root FROM who UNION ALL SELECT id FROM alias JOIN who USING (root) WHERE what = 'member'))
    ORDER BY s.place LIMIT 1
) AS me
JOIN season_standing AS s ON s.season_no = $1 AND s.board = $2 AND s.place BETWEEN me.place - $4 AND me.place + $4
LEFT JOIN member AS m ON m.member_id = s.member_id
ORDER BY s.place

-- name: withdrawn
(EXISTS (SELECT FROM erased WHERE stand_in = s.member_id) OR EXISTS (SELECT FROM unlisted AS u WHERE u.member_id =
    coalesce((SELECT root FROM alias WHERE what = 'member' AND id = s.member_id), s.member_id)))

-- name: who
-- Whom an id stands for, whether anybody may see them, and their points of all time.
SELECT w.id AS member_id, EXISTS (SELECT FROM unlisted WHERE member_id = w.id) AS unlisted,
    EXISTS (SELECT FROM erased WHERE stand_in = w.id) AS erased,
    EXISTS (SELECT FROM member WHERE member.member_id = w.id) AS known,
    coalesce((
        SELECT s.points FROM standing AS s JOIN board AS b USING (board_no)
        WHERE s.member_id = w.id AND s.period = 0 AND b.board = 'everyone' AND b.epoch = (SELECT current FROM epoch)
    ), 0) AS points
FROM (SELECT coalesce((SELECT root FROM alias WHERE what = 'member' AND id = $1::text), $1) AS id) AS w;

-- name: ledger
SELECT entry_id, rule, points, status, reason, topic_id, reply_id, kudos_id, space, at FROM ledger
WHERE member_id = $1 AND epoch = (SELECT current FROM epoch) {after}
ORDER BY at DESC, entry_id DESC LIMIT $2

-- name: ledger_after
AND (at, entry_id) < ($3::timestamptz, $4::text)

-- name: latest_fold
SELECT coalesce(max(fold), 0) FROM board_change;

-- name: changes_since
-- On one board, for who has seen up to $2; forgotten: something came after that, on whatever board, and is not here.
SELECT max(fold) AS fold, count(*) > 0 AND bool_and(member_ids IS NOT NULL) AS named,
    coalesce($2 < (SELECT min(fold) - 1 FROM board_change), false) AS forgotten,
    (SELECT array_agg(DISTINCT id) FROM board_change AS c, jsonb_array_elements_text(c.member_ids) AS id
    WHERE c.board = $1 AND c.fold > $2) AS member_ids
FROM board_change WHERE board = $1 AND fold > $2;

-- name: boards_moved
SELECT board, max(fold) AS fold FROM board_change WHERE fold > $1 GROUP BY board;

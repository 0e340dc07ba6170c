-- name: open
INSERT INTO season (season_id, name, board, start_on, end_on) VALUES ($1, $2, $3, $4, $5) RETURNING *;

-- name: close
UPDATE season SET closed_at = now() WHERE season_id = $1 AND closed_at IS NULL RETURNING *;

-- name: freeze
INSERT INTO season_standing (season_no, board, place, rank, member_id, points, solutions, reached_at)
SELECT $1, b.board,
    row_number() OVER (PARTITION BY b.board ORDER BY (-s.points), (-s.solutions), s.reached_at, s.member_id),
    rank() OVER (PARTITION BY b.board ORDER BY (-s.points)),
    s.member_id, s.points, s.solutions, s.reached_at
FROM board AS b
JOIN standing AS s ON board_period(s.board_no, s.period) = board_period(b.board_no, $2) AND s.listed
WHERE b.epoch = (SELECT current FROM epoch);

-- name: forget_open
WITH present AS (SELECT board_no FROM board WHERE epoch >= (SELECT current FROM epoch)),
    a AS (
        DELETE FROM standing WHERE board_period(board_no, period) IN (SELECT board_period(board_no, $1) FROM present)
    ),
    b AS (DELETE FROM score WHERE period = $1 AND board_no IN (SELECT board_no FROM present))
DELETE FROM score_block WHERE period = $1 AND board_no IN (SELECT board_no FROM present);

-- name: log_freeze
INSERT INTO board_change (fold, board)
SELECT (SELECT nextval('fold')), board FROM (
    SELECT DISTINCT board FROM season_standing WHERE season_no = $1 ORDER BY board
) AS frozen;

-- name: first_standings
SELECT rank, member_id, points, solutions, reached_at FROM season_standing
WHERE season_no = $1 AND board = $2 ORDER BY place LIMIT $3;

-- name: instants
SELECT $2::date::timestamp AT TIME ZONE z.zone AS opens_at, $3::date::timestamp AT TIME ZONE z.zone AS closes_at
FROM (SELECT coalesce((SELECT name FROM time_zone WHERE board = $1::text), 'UTC') AS zone) AS z;

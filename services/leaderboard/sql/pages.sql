-- What only pages ask.

-- name: boards
-- The spaces and languages that have a board, the one with the most members first.
SELECT b.board, (SELECT sum(members) FROM score_block AS s WHERE s.board_no = b.board_no AND s.period = 0) AS members
FROM board AS b WHERE b.epoch = (SELECT current FROM epoch)
ORDER BY 2 DESC NULLS LAST, 1 LIMIT $1;

-- name: time_zone
SELECT coalesce((SELECT name FROM time_zone WHERE board = $1), 'UTC');

-- name: points_by_month
-- A member's effective points by month (UTC) and rule.
SELECT date_trunc('month', at AT TIME ZONE 'UTC') AS month, rule, sum(points)::bigint AS points, count(*) AS entries
FROM ledger
WHERE member_id = $1 AND epoch = (SELECT current FROM epoch) AND status = 'effective'
GROUP BY 1, 2 ORDER BY 1;

-- name: titles
SELECT topic_id, title FROM topic WHERE topic_id = ANY($1::text[]) AND title IS NOT NULL;

-- name: seasons_of
-- A member's places in closed seasons, on the board that the season is about; of several accounts the best.
SELECT s.season_id, s.name, s.board, s.start_on, s.end_on, p.rank, p.points
FROM season AS s
CROSS JOIN LATERAL (
    SELECT p.rank, p.points FROM season_standing AS p
    WHERE p.season_no = s.season_no AND p.board = s.board AND p.member_id = ANY(ARRAY(
        SELECT $1::text UNION ALL SELECT id FROM alias WHERE what = 'member' AND root = $1))
    ORDER BY p.place LIMIT 1
) AS p
ORDER BY s.end_on DESC LIMIT 20;

-- name: frozen_ties
-- Of a closed season's first places those that points alone did not part, with what did.
SELECT place, rank, member_id, points, solutions, reached_at FROM season_standing AS s
WHERE season_no = $1 AND board = $2 AND place <= $3
    AND EXISTS (
        SELECT FROM season_standing AS o
        WHERE o.season_no = s.season_no AND o.board = s.board AND o.points = s.points AND o.place <> s.place
            AND o.place <= $3
    )
ORDER BY place;

-- name: name_of
SELECT name FROM member WHERE member_id = $1;

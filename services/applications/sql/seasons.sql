-- name: opened
INSERT INTO season AS s (season_id, name, board, opens_at, closes_at, opened_stamp)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[])
    AS given (season_id)
ORDER BY season_id
ON CONFLICT (season_id) DO UPDATE SET name = excluded.name, board = excluded.board, opens_at = excluded.opens_at,
    closes_at = excluded.closes_at, opened_stamp = excluded.opened_stamp
WHERE excluded.opened_stamp > s.opened_stamp;

-- name: closed
INSERT INTO season AS s (season_id, closed_at, closed_stamp)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS given (season_id)
ORDER BY season_id
ON CONFLICT (season_id) DO UPDATE SET closed_at = excluded.closed_at, closed_stamp = excluded.closed_stamp
WHERE excluded.closed_stamp > s.closed_stamp
RETURNING season_id;

-- name: clear_standings
DELETE FROM season_standing WHERE season_id = ANY($1::text[]);

-- name: write_standings
INSERT INTO season_standing (season_id, place, member_id, rank, points, solutions)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::bigint[], $6::int[]) ORDER BY 1, 2;

-- name: closed_seasons
SELECT season_id, name, board, closed_at FROM season WHERE closed_at IS NOT NULL
ORDER BY closed_at DESC, season_id LIMIT 50;

-- Boards are folded by one process at a time, which holds lock_boards: nobody else writes what is keyed by board.

-- name: lock_boards
SELECT pg_advisory_lock(4829120, hashtext(current_schema));

-- name: unlock_boards
SELECT pg_advisory_unlock(4829120, hashtext(current_schema));

-- name: lock_facts
-- As the exclusive lock of the facts, but before a transaction begins and its snapshot is taken.
SELECT pg_advisory_lock(4829119, hashtext(current_schema));

-- name: unlock_facts
SELECT pg_advisory_unlock(4829119, hashtext(current_schema));

-- name: lock_boards_in_transaction
SELECT pg_advisory_xact_lock(4829120, hashtext(current_schema));

-- name: plan_for_folds
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true),
    -- Nor does a bitmap know the order of a board, or forget the rows that are dead.
    set_config('enable_bitmapscan', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('statement_timeout', '0', true);

-- name: read_changed
SELECT id, epoch, sign, points, entry_id, rule, member_id, topic_id, reply_id, kudos_id, at, space, language, star,
    backfill, traceparent, (SELECT current FROM epoch) AS current
FROM changed ORDER BY id LIMIT $1;

-- name: something_changed
SELECT EXISTS (SELECT FROM changed);

-- name: write_boards
-- Not by ON CONFLICT, which would take a number each time.
INSERT INTO board (epoch, board, time_zone)
SELECT epoch, board, coalesce(z.name, 'UTC')
FROM unnest($1::smallint[], $2::text[]) AS given (epoch, board)
LEFT JOIN LATERAL (SELECT name FROM time_zone WHERE time_zone.board = given.board) AS z ON true
WHERE NOT EXISTS (SELECT FROM board AS b WHERE b.epoch = given.epoch AND b.board = given.board)
ORDER BY epoch, board;

-- name: fold
-- Postings (entries gained and lost) onto the boards: what each adds to a member on a board in a period, and to how
-- many members have a score. Where they come from, and to which boards and periods they go, is filled in.
-- What is there is looked up by key and then met by its place: a plain join would be the planner's to order, and
-- statistics that were gathered while a long transaction filled these tables tell it that they are empty.
WITH posting AS (
    {postings}
), calendar AS MATERIALIZED (
    SELECT DISTINCT epoch, time_zone FROM board AS b WHERE true {boards}
), on_calendar AS (
    -- Boards are many and time zones few: each posting is met once a zone, and what is left of them once a board.
    SELECT p.epoch, c.time_zone, p.member_id, p.space, p.language, p.star, (p.at AT TIME ZONE c.time_zone)::date AS day,
        sum(p.sign * p.points) AS points,
        coalesce(sum(p.sign) FILTER (WHERE p.rule = 'solution'), 0) AS solutions,
        sum(p.sign) AS entries,
        max(p.at) FILTER (WHERE p.sign > 0) AS gained_at,
        max(p.at) FILTER (WHERE p.sign < 0) AS lost_at
    FROM calendar AS c
    JOIN posting AS p ON p.epoch = c.epoch
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), on_day AS (
    SELECT b.board_no, p.member_id, p.day, sum(p.points) AS points, sum(p.solutions) AS solutions,
        sum(p.entries) AS entries, max(p.gained_at) AS gained_at, max(p.lost_at) AS lost_at
    FROM on_calendar AS p
    CROSS JOIN LATERAL (
        VALUES ('everyone'), (CASE WHEN p.star THEN 'stars' END), ('space:' || p.space), ('language:' || p.language)
    ) AS s (board)
    CROSS JOIN LATERAL (
        SELECT board_no FROM board AS b
        WHERE b.epoch = p.epoch AND b.board = s.board AND b.time_zone = p.time_zone {boards} OFFSET 0
    ) AS b
    GROUP BY 1, 2, 3
), delta AS (
    SELECT d.board_no, w.period, d.member_id, sum(d.points)::bigint AS points, sum(d.solutions)::int AS solutions,
        sum(d.entries)::int AS entries, max(d.gained_at) AS gained_at, max(d.lost_at) AS lost_at
    FROM on_day AS d
    CROSS JOIN LATERAL (
        SELECT period FROM (VALUES
            (0),
            (4000000 + (d.day - '1970-01-01'::date)),
            (8000000 + (date_trunc('week', d.day::timestamp)::date - '1970-01-01'::date)),
            (12000000 + (date_trunc('month', d.day::timestamp)::date - '1970-01-01'::date)),
            (16000000 + (date_trunc('quarter', d.day::timestamp)::date - '1970-01-01'::date)),
            (20000000 + (date_trunc('year', d.day::timestamp)::date - '1970-01-01'::date))
        ) AS of_calendar (period)
        UNION ALL
        SELECT 24000000 + season_no FROM season
        WHERE closed_at IS NULL AND d.day >= start_on AND d.day < end_on
    ) AS w {periods}
    GROUP BY 1, 2, 3
), moved AS (
    MERGE INTO standing AS s
    USING (
        SELECT delta.*, NOT EXISTS (SELECT FROM unlisted AS u WHERE u.member_id = delta.member_id) AS listed,
            found.ctid AS found
        FROM delta
        LEFT JOIN LATERAL (
            SELECT ctid FROM standing AS s
            WHERE s.member_id = delta.member_id AND s.board_no = delta.board_no AND s.period = delta.period OFFSET 0
        ) AS found ON true
        ORDER BY member_id, board_no, period
    ) AS d
    ON s.ctid = d.found
    WHEN MATCHED AND s.entries + d.entries = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET
        points = s.points + d.points, solutions = s.solutions + d.solutions, entries = s.entries + d.entries,
        reached_at = greatest(s.reached_at, d.gained_at)
    WHEN NOT MATCHED AND d.entries > 0 THEN
        INSERT (board_no, period, member_id, points, solutions, entries, reached_at, listed)
        VALUES (d.board_no, d.period, d.member_id, d.points, d.solutions, d.entries, d.gained_at, d.listed)
    RETURNING d.board_no, d.period, d.member_id, old.points AS old_points, new.points AS new_points,
        coalesce(old.listed, false) AS was_listed, coalesce(new.listed, false) AS is_listed,
        -- The latest counted entry may be gone.
        coalesce(new.entries > 0 AND d.lost_at >= coalesce(old.reached_at, '-infinity'), false)
            OR coalesce(old.entries IS NULL AND d.lost_at IS NOT NULL, false) AS lost_latest
), scored AS (
    SELECT board_no, period, points, sum(members)::int AS members
    FROM (
        SELECT board_no, period, old_points AS points, -1 AS members FROM moved WHERE was_listed
        UNION ALL
        SELECT board_no, period, new_points, 1 FROM moved WHERE is_listed
    ) AS both_sides
    GROUP BY 1, 2, 3 HAVING sum(members) <> 0
), in_scores AS (
    MERGE INTO score AS s USING (
        SELECT scored.*, found.ctid AS found FROM scored
        LEFT JOIN LATERAL (
            SELECT ctid FROM score AS s
            WHERE s.board_no = scored.board_no AND s.period = scored.period AND s.points = scored.points OFFSET 0
        ) AS found ON true
        ORDER BY board_no, period, points
    ) AS d
    ON s.ctid = d.found
    WHEN MATCHED AND s.members + d.members = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET members = s.members + d.members
    WHEN NOT MATCHED THEN INSERT VALUES (d.board_no, d.period, d.points, d.members)
    RETURNING 1
), in_blocks AS (
    MERGE INTO score_block AS s USING (
        SELECT in_block.*, found.ctid AS found FROM (
            SELECT board_no, period, (points >> 8)::int AS block, sum(members)::int AS members FROM scored
            GROUP BY 1, 2, 3 HAVING sum(members) <> 0
        ) AS in_block
        LEFT JOIN LATERAL (
            SELECT ctid FROM score_block AS s
            WHERE s.board_no = in_block.board_no AND s.period = in_block.period AND s.block = in_block.block OFFSET 0
        ) AS found ON true
        ORDER BY board_no, period, block
    ) AS d
    ON s.ctid = d.found
    WHEN MATCHED AND s.members + d.members = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET members = s.members + d.members
    WHEN NOT MATCHED THEN INSERT VALUES (d.board_no, d.period, d.block, d.members)
    RETURNING 1
)
SELECT (SELECT count(*) FROM moved) AS moved, board_no, period, member_id
FROM (SELECT 1) AS always LEFT JOIN (SELECT * FROM moved WHERE lost_latest) AS m ON true;

-- name: taken_postings
DELETE FROM changed WHERE id <= $1 RETURNING epoch, sign, points, rule, member_id, at, space, language, star

-- name: named_postings
DELETE FROM changed WHERE id = ANY($1::bigint[])
RETURNING epoch, sign, points, rule, member_id, at, space, language, star

-- name: all_postings
-- What the ledger holds, without what the boards' queue is still to bring.
SELECT epoch, 1 AS sign, points, rule, member_id, at, space, language, star FROM ledger WHERE status = 'effective'
UNION ALL
SELECT epoch, -sign, points, rule, member_id, at, space, language, star FROM changed

-- name: mend_reached
-- Where the latest counted entry went: the time of the one that is the latest now.
UPDATE standing AS s SET reached_at = r.at
FROM unnest($1::int[], $2::int[], $3::text[]) AS g (board_no, period, member_id)
JOIN board AS b ON b.board_no = g.board_no
CROSS JOIN LATERAL (
    SELECT at FROM ledger AS l
    WHERE l.member_id = g.member_id AND l.epoch = b.epoch AND l.status = 'effective'
        AND CASE WHEN b.board = 'everyone' THEN true WHEN b.board = 'stars' THEN l.star
            WHEN b.board LIKE 'space:%' THEN l.space = substr(b.board, 7) ELSE l.language = substr(b.board, 10) END
        AND CASE g.period / 4000000
            WHEN 0 THEN true
            WHEN 6 THEN EXISTS (
                SELECT FROM season WHERE season_no = g.period - 24000000
                    AND (l.at AT TIME ZONE b.time_zone)::date >= start_on
                    AND (l.at AT TIME ZONE b.time_zone)::date < end_on
            )
            ELSE date_trunc(
                (ARRAY['day', 'week', 'month', 'quarter', 'year'])[g.period / 4000000], l.at AT TIME ZONE b.time_zone
            )::date = '1970-01-01'::date + g.period % 4000000
        END
        -- So that an old period of a long ledger is found by key: no period is longer, and no time zone further away.
        AND l.at < CASE WHEN g.period / 4000000 IN (0, 6) THEN 'infinity'
            ELSE ('1970-01-01'::date + g.period % 4000000
                + (ARRAY[3, 9, 33, 94, 368])[g.period / 4000000])::timestamptz END
    ORDER BY l.at DESC LIMIT 1 OFFSET 0
) AS r
CROSS JOIN LATERAL (
    SELECT ctid FROM standing AS s
    WHERE s.member_id = g.member_id AND s.board_no = g.board_no AND s.period = g.period OFFSET 0
) AS found
WHERE s.ctid = found.ctid AND s.reached_at <> r.at;

-- name: clear_boards
WITH gone AS (
        SELECT board_no FROM board WHERE epoch >= (SELECT current FROM epoch) AND ($1::text IS NULL OR board = $1)
    ),
    a AS (
        DELETE FROM standing AS s USING gone WHERE board_period(s.board_no, s.period) BETWEEN
            board_period(gone.board_no, coalesce($2, 0)) AND board_period(gone.board_no, coalesce($2, 2147483647))
    ),
    b AS (DELETE FROM score WHERE board_no IN (SELECT board_no FROM gone) AND ($2::int IS NULL OR period = $2))
DELETE FROM score_block WHERE board_no IN (SELECT board_no FROM gone) AND ($2::int IS NULL OR period = $2);

-- name: set_board_time_zone
UPDATE board SET time_zone = $2 WHERE board = $1 AND epoch >= (SELECT current FROM epoch);

-- name: write_time_zone
INSERT INTO time_zone (board, name, set_by) VALUES ($1, $2, $3)
ON CONFLICT (board) DO UPDATE SET name = excluded.name, set_by = excluded.set_by, set_at = now();

-- name: is_time_zone
SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = $1);

-- name: log_changes
INSERT INTO board_change (fold, board, member_ids)
SELECT (SELECT nextval('fold')), board, member_ids FROM unnest($1::text[], $2::jsonb[]) AS given (board, member_ids)
ORDER BY board;

-- name: forget_changes
-- All but the last: by it one tells whether somebody has missed anything.
DELETE FROM board_change
WHERE folded_at < now() - interval '5 minutes' AND fold < (SELECT max(fold) FROM board_change);

-- name: first_ten
-- The first ten of all time on these boards.
SELECT b.board, s.member_id, s.points
FROM board AS b
CROSS JOIN LATERAL (
    SELECT member_id, points FROM standing
    WHERE board_period(standing.board_no, period) = board_period(b.board_no, 0) AND listed
    ORDER BY (-points), (-solutions), reached_at, member_id LIMIT 10 OFFSET 0
) AS s
WHERE b.epoch = $1 AND b.board = ANY($2::text[]);

-- name: write_milestones
INSERT INTO milestone (member_id, board, kind)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS given (member_id, board, kind)
ORDER BY member_id, board, kind
ON CONFLICT DO NOTHING
RETURNING member_id, board, kind;

-- name: relist_may_matter
-- Whether relisting these members may change anything. Only who holds the boards' lock knows who is hidden: of a member
-- who others stand for, or who stands for another, somebody may be saying so at this moment.
SELECT EXISTS (SELECT FROM hidden)
    OR EXISTS (SELECT FROM alias WHERE what = 'member' AND id = ANY($1::text[]))
    OR EXISTS (SELECT FROM alias WHERE what = 'member' AND root = ANY($1::text[]));

-- name: relist
-- Members who are to be seen, or not, from now on: they appear, or vanish, on every board at once. Not on those of old
-- writings, which nobody reads and clear_old takes away without the boards' lock.
WITH should AS (
    SELECT g.id AS member_id,
        EXISTS (SELECT FROM erased WHERE stand_in = g.id)
        OR EXISTS (SELECT FROM hidden WHERE hidden.member_id = g.id AND NOT EXISTS (
            SELECT FROM alias WHERE what = 'member' AND alias.id = g.id))
        OR EXISTS (SELECT FROM alias JOIN hidden ON hidden.member_id = alias.id
            WHERE what = 'member' AND alias.root = g.id) AS unlisted
    FROM unnest($1::text[]) AS g (id)
), out AS (
    INSERT INTO unlisted SELECT member_id FROM should WHERE should.unlisted ORDER BY member_id ON CONFLICT DO NOTHING
), back AS (
    DELETE FROM unlisted AS u USING should WHERE u.member_id = should.member_id AND NOT should.unlisted
), moved AS (
    UPDATE standing AS s SET listed = NOT should.unlisted FROM should
    WHERE s.member_id = should.member_id AND s.listed = should.unlisted
        AND (SELECT epoch FROM board AS b WHERE b.board_no = s.board_no) >= (SELECT current FROM epoch)
    RETURNING s.board_no, s.period, s.points, CASE WHEN s.listed THEN 1 ELSE -1 END AS members
), scored AS (
    SELECT board_no, period, points, sum(members)::int AS members FROM moved
    GROUP BY 1, 2, 3 HAVING sum(members) <> 0
), in_scores AS (
    MERGE INTO score AS s USING scored AS d
    ON s.board_no = d.board_no AND s.period = d.period AND s.points = d.points
    WHEN MATCHED AND s.members + d.members = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET members = s.members + d.members
    WHEN NOT MATCHED THEN INSERT VALUES (d.board_no, d.period, d.points, d.members)
    RETURNING 1
), in_blocks AS (
    MERGE INTO score_block AS s USING (
        SELECT board_no, period, (points >> 8)::int AS block, sum(members)::int AS members FROM scored
        GROUP BY 1, 2, 3 HAVING sum(members) <> 0
    ) AS d
    ON s.board_no = d.board_no AND s.period = d.period AND s.block = d.block
    WHEN MATCHED AND s.members + d.members = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET members = s.members + d.members
    WHEN NOT MATCHED THEN INSERT VALUES (d.board_no, d.period, d.block, d.members)
    RETURNING 1
)
SELECT DISTINCT b.board FROM moved JOIN board AS b USING (board_no) WHERE b.epoch = (SELECT current FROM epoch);

-- name: rename_erased
-- An erased member's entries and standings are the stand-in's, which is on no board.
WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)),
    a AS (UPDATE ledger AS l SET member_id = stand_in FROM gone WHERE l.member_id = gone.id),
    b AS (UPDATE changed AS c SET member_id = stand_in FROM gone WHERE c.member_id = gone.id),
    c AS (UPDATE standing AS s SET member_id = stand_in FROM gone WHERE s.member_id = gone.id),
    d AS (UPDATE season_standing AS s SET member_id = stand_in FROM gone WHERE s.member_id = gone.id),
    e AS (DELETE FROM milestone AS m USING gone WHERE m.member_id = gone.id),
    f AS (DELETE FROM hidden AS h USING gone WHERE h.member_id = gone.id),
    g AS (DELETE FROM unlisted AS u USING gone WHERE u.member_id = gone.id),
    h AS (UPDATE time_zone AS z SET set_by = stand_in FROM gone WHERE z.set_by = gone.id),
    i AS (UPDATE rule_version AS r SET set_by = stand_in FROM gone WHERE r.set_by = gone.id)
UPDATE board_change AS b SET member_ids = NULL FROM gone WHERE b.member_ids ? gone.id;

-- name: ensure_offsets
INSERT INTO consumer_offset (cluster, stream, partition)
SELECT $1, stream, partition FROM unnest($2::text[], $3::int[]) AS given (stream, partition)
ORDER BY stream, partition
ON CONFLICT DO NOTHING;

-- name: load_offsets
SELECT stream, partition, next_offset
FROM consumer_offset
WHERE cluster = $1 AND (stream, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]));

-- name: take_offsets
-- The fence: holds each partition's row, and moves it to the batch's end unless the batch was fetched from beyond it or
-- is behind it altogether. Returns where it was.
WITH held AS (
    SELECT o.stream, o.partition, o.next_offset, given.fetched_from, given.batch_end
    FROM consumer_offset AS o
    JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS given (stream, partition, fetched_from, batch_end)
        ON o.stream = given.stream AND o.partition = given.partition
    WHERE o.cluster = $1
    ORDER BY o.stream, o.partition
    FOR UPDATE OF o
), moved AS (
    UPDATE consumer_offset AS o SET next_offset = held.batch_end FROM held
    WHERE o.cluster = $1 AND o.stream = held.stream AND o.partition = held.partition
        AND held.fetched_from <= held.next_offset AND held.next_offset < held.batch_end
)
SELECT stream, partition, next_offset FROM held;

-- name: advance_offsets
UPDATE consumer_offset AS o SET next_offset = given.next_offset
FROM unnest($2::text[], $3::int[], $4::bigint[]) AS given (stream, partition, next_offset)
WHERE o.cluster = $1 AND o.stream = given.stream AND o.partition = given.partition;

-- name: write_caught_up
-- A busy partition is not caught up, so a locked row is left alone. `position` moves the fence over what holds
-- no records, such as the end markers of a producer's transaction; it is null unless all before it is applied. A fence
-- below what was applied has been set back, for a rebuild: it is left there.
WITH free AS (
    SELECT o.stream, o.partition, given.at, given.log_end,
        CASE WHEN o.next_offset < given.applied THEN o.next_offset ELSE greatest(o.next_offset, given.position) END
            AS next_offset
    FROM consumer_offset AS o
    JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $7::bigint[]) WITH ORDINALITY
        AS g (stream, partition, log_end, position, applied, n) ON o.stream = g.stream AND o.partition = g.partition
    CROSS JOIN LATERAL (SELECT $6::timestamptz AS at, g.log_end, g.position, g.applied) AS given
    WHERE o.cluster = $1
    ORDER BY o.stream, o.partition
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE consumer_offset AS o
SET next_offset = free.next_offset,
    caught_up_at = CASE WHEN free.next_offset >= free.log_end THEN greatest(o.caught_up_at, free.at) ELSE o.caught_up_at END
FROM free
WHERE o.cluster = $1 AND o.stream = free.stream AND o.partition = free.partition
RETURNING o.stream, o.partition, o.next_offset;

-- name: caught_up_at
-- Null unless every partition of the stream was read to its end at least once.
SELECT CASE WHEN bool_and(caught_up_at IS NOT NULL) THEN min(caught_up_at) END
FROM consumer_offset
WHERE cluster = $1 AND stream = $2;

-- name: write_dead_letters
INSERT INTO dead_letter (cluster, stream, partition, "offset", key, value, headers, appended_at, error)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::jsonb[], $8::timestamptz[], $9::text[])
ON CONFLICT (cluster, stream, partition, "offset") DO NOTHING;

-- name: take_sequences
INSERT INTO sequence (stream, key, last)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS given (stream, key, n)
ORDER BY stream, key
ON CONFLICT (stream, key) DO UPDATE SET last = sequence.last + excluded.last
RETURNING stream, key, last;

-- name: read_outbox
SELECT id, stream, key, value FROM outbox ORDER BY id LIMIT $1;

-- name: delete_outbox
DELETE FROM outbox WHERE id = ANY($1::bigint[]);

-- name: list_dead_letters
SELECT id, stream, partition, "offset", appended_at, failed_at, error, octet_length(value) AS bytes
FROM dead_letter WHERE id > $1 ORDER BY id LIMIT $2;

-- name: show_dead_letter
SELECT * FROM dead_letter WHERE id = $1;

-- name: take_dead_letters
SELECT id, stream, key, value, headers FROM dead_letter WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE;

-- name: drop_dead_letters
DELETE FROM dead_letter WHERE id = ANY($1::bigint[]) RETURNING id;

-- name: dead_letter_ids
SELECT id FROM dead_letter ORDER BY id;

-- name: read_dead_letters
SELECT id, key, value FROM dead_letter WHERE key IS NOT NULL OR value IS NOT NULL;

-- name: empty_dead_letters
UPDATE dead_letter SET key = NULL, value = NULL, headers = '[]', error = 'emptied: it named an erased member'
WHERE id = ANY($1::bigint[]);

-- name: outbox_naming
SELECT id, stream, key, value FROM outbox
WHERE position($1::bytea IN value) > 0
ORDER BY id FOR UPDATE;

-- name: rewrite_outbox
UPDATE outbox AS o SET key = given.key, value = given.value
FROM unnest($1::bigint[], $2::text[], $3::bytea[]) AS given (id, key, value) WHERE o.id = given.id;

-- name: rename_sequences
-- An erased member's counters go on under their stand-in.
UPDATE sequence SET key = $3 WHERE stream = ANY($1::text[]) AND key = $2
AND NOT EXISTS (SELECT FROM sequence AS s WHERE s.stream = sequence.stream AND s.key = $3);

-- name: forget_sequences
DELETE FROM sequence WHERE stream = ANY($1::text[]) AND key = $2;

-- name: lock_states
SELECT topic_id, known, visible, closed, kind, space, language, title, tags, url, author_id, created_at, created_us,
    target_us, due_at, response_reply_id, responder_id, responder_kind, response_at, response_us, appended_at, backfill,
    next_at
FROM topic_state WHERE topic_id = ANY($1::text[])
ORDER BY topic_id
FOR UPDATE;

-- name: read_topics
SELECT g.root, t.*, told.stage AS told, c.claim_id, c.member_id AS claimed_by, c.until
FROM unnest($1::text[], $2::text[]) AS g (root, member)
CROSS JOIN LATERAL (
    SELECT topic_id, created_at, author_id, kind, space, language, title, tags, url, appended_at, backfill, closed_at,
        reopened_at, deleted_at, restored_at
    FROM topic WHERE topic.topic_id = g.member AND created_at IS NOT NULL OFFSET 0
) AS t
LEFT JOIN LATERAL (SELECT max(stage) AS stage FROM told WHERE told.topic_id = g.root) AS told ON true
LEFT JOIN LATERAL (
    SELECT claim_id, member_id, until FROM claim WHERE claim.topic_id = g.root AND ended_at IS NULL
) AS c ON true;

-- name: same_members
-- Of each member all ids that stand for the same, the root first; members without aliases are left out.
SELECT g.id, a.root, array(SELECT o.id FROM alias AS o WHERE o.what = 'member' AND o.root = a.root) AS others
FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT root FROM alias WHERE what = 'member' AND alias.id = g.id
    UNION ALL
    (SELECT root FROM alias WHERE what = 'member' AND alias.root = g.id LIMIT 1)
) AS a;

-- name: first_responses
-- The earliest reply in each topic that is public, by a person who is not an asker, standing, and not older than the
-- question. A thread is never read further than that.
SELECT g.root, r.*, coalesce(a.root, r.author_id) AS responder_id, star.appointed AS was_star
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::jsonb[]) AS g (root, member, since, askers)
CROSS JOIN LATERAL (
    SELECT reply_id, author_id, author_kind, posted_at, backfill FROM reply
    WHERE reply.topic_id = g.member AND stands AND posted_at >= g.since AND author_kind <> 'bot'
        AND NOT g.askers ? author_id
    ORDER BY posted_at, reply_id LIMIT 1 OFFSET 0
) AS r
LEFT JOIN LATERAL (SELECT root FROM alias WHERE what = 'member' AND alias.id = r.author_id) AS a ON true
LEFT JOIN LATERAL (
    SELECT appointed FROM star_change
    WHERE at <= r.posted_at AND (
        star_change.member_id = coalesce(a.root, r.author_id)
        OR star_change.member_id IN (SELECT id FROM alias WHERE what = 'member' AND alias.root = coalesce(a.root, r.author_id))
    )
    ORDER BY at DESC, appointed LIMIT 1
) AS star ON true;

-- name: policies
SELECT scope, nullif(from_at, '-infinity') AS from_at, target_seconds, objective FROM policy ORDER BY scope, from_at;

-- name: write_states
-- Rows that are there are locked. An upsert all the same: it finds each row by its key whatever the planner believes of
-- the table's size, and a join does not. Returns how many were not there.
WITH written AS (
INSERT INTO topic_state AS s (
    topic_id, known, visible, closed, kind, space, language, title, tags, url, author_id, created_at, created_us,
    target_us, due_at, response_reply_id, responder_id, responder_kind, response_at, response_us, appended_at,
    backfill, next_at
)
SELECT * FROM unnest(
    $1::text[], $2::boolean[], $3::boolean[], $4::boolean[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[],
    $10::text[], $11::text[], $12::timestamptz[], $13::bigint[], $14::bigint[], $15::timestamptz[], $16::text[],
    $17::text[], $18::text[], $19::timestamptz[], $20::bigint[], $21::timestamptz[], $22::boolean[], $23::timestamptz[]
)
ON CONFLICT (topic_id) DO UPDATE SET
    known = excluded.known, visible = excluded.visible, closed = excluded.closed, kind = excluded.kind,
    space = excluded.space, language = excluded.language, title = excluded.title, tags = excluded.tags,
    url = excluded.url, author_id = excluded.author_id, created_at = excluded.created_at,
    created_us = excluded.created_us, target_us = excluded.target_us, due_at = excluded.due_at,
    response_reply_id = excluded.response_reply_id, responder_id = excluded.responder_id,
    responder_kind = excluded.responder_kind, response_at = excluded.response_at, response_us = excluded.response_us,
    appended_at = excluded.appended_at, backfill = excluded.backfill, next_at = excluded.next_at,
    changed = pg_current_xact_id()
RETURNING old.topic_id AS found
)
SELECT count(*) FILTER (WHERE found IS NULL) FROM written;

-- name: end_claims
UPDATE claim SET ended_at = now(), why = given.why
FROM unnest($1::bigint[], $2::text[]) AS given (claim_id, why)
WHERE claim.claim_id = given.claim_id AND ended_at IS NULL
RETURNING topic_id, until,
    coalesce((SELECT root FROM alias WHERE what = 'member' AND alias.id = claim.member_id), member_id) AS member_id;

-- name: open_claims_of_topics
SELECT claim_id, topic_id FROM claim WHERE topic_id = ANY($1::text[]) AND ended_at IS NULL;

-- name: erase_claims
UPDATE claim AS c SET member_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE c.member_id = given.id;

-- name: erase_policies
UPDATE policy AS p SET set_by = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE p.set_by = given.id;

-- What is read of facts is read by key, a bounded number of rows for each part that was touched.

-- name: epochs
SELECT current, shadow, EXISTS (SELECT FROM star_change) AS somebody_was_star, (
    SELECT json_agg(json_build_object('rule_set', rule_set, 'version', version, 'from', nullif(from_at, '-infinity'),
        'rules', rules, 'rewriting', rewriting) ORDER BY version) FROM rule_version
) AS versions
FROM epoch;

-- name: rule_versions
SELECT rule_set, version, nullif(from_at, '-infinity') AS from_at, rules, rewriting FROM rule_version ORDER BY version;

-- name: topics_of
-- The topics of replies that kudos hang on ($1), and those in which replies that changed ($2) were accepted or came first.
SELECT 'reply' AS what, r.topic_id FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (SELECT topic_id FROM reply WHERE reply_id = g.id AND topic_id IS NOT NULL OFFSET 0) AS r
UNION ALL
SELECT 'acceptance', a.topic_id FROM unnest($2::text[]) AS g (id)
CROSS JOIN LATERAL (SELECT topic_id FROM acceptance WHERE reply_id = g.id OFFSET 0) AS a
UNION ALL
SELECT 'response', f.topic_id FROM unnest($2::text[]) AS g (id)
CROSS JOIN LATERAL (SELECT topic_id FROM first_response WHERE reply_id = g.id OFFSET 0) AS f;

-- name: groups
SELECT id, root FROM alias WHERE what = 'topic' AND (id = ANY($1::text[]) OR root = ANY($1::text[]));

-- name: groups_of_roots
SELECT id, root FROM alias WHERE what = 'topic' AND root = ANY($1::text[]);

-- name: lock_topics
-- A row that is there is locked, though never updated.
INSERT INTO topic_lock (topic_id) SELECT topic_id FROM unnest($1::text[]) AS given (topic_id) ORDER BY topic_id
ON CONFLICT (topic_id) DO UPDATE SET topic_id = excluded.topic_id WHERE false;

-- name: read_topics
SELECT t.* FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT topic_id, author_id, kind, space, language, deleted_at, restored_at
    FROM topic WHERE topic_id = g.id AND created_at IS NOT NULL OFFSET 0
) AS t;

-- name: read_replies
-- These, and all that lie in topics ($2).
SELECT r.* FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT reply_id, topic_id, posted_at, author_id, author_kind, visibility, backfill, deleted_at, restored_at
    FROM reply WHERE reply_id = g.id AND posted_at IS NOT NULL OFFSET 0
) AS r
UNION ALL
SELECT r.* FROM unnest($2::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT reply_id, topic_id, posted_at, author_id, author_kind, visibility, backfill, deleted_at, restored_at
    FROM reply WHERE topic_id = g.id AND posted_at IS NOT NULL OFFSET 0
) AS r;

-- name: earliest_replies
-- Of a member in a topic those that may count, as many as could be counted before or after.
SELECT g.pair, r.*
FROM unnest($1::int[], $2::text[], $3::text[], $4::int[]) AS g (pair, topic_id, author_id, most)
CROSS JOIN LATERAL (
    SELECT reply_id, posted_at FROM reply
    WHERE reply.author_id = g.author_id AND reply.topic_id = g.topic_id AND stands AND author_kind <> 'bot'
    ORDER BY posted_at, reply_id LIMIT g.most OFFSET 0
) AS r;

-- name: read_acceptances
SELECT a.topic_id AS accepted_in, a.reply_id, a.accepted_stamp, a.accepted_at, a.backfill, a.revoked_at,
    r.topic_id, r.posted_at, r.author_id, r.author_kind, r.visibility, r.deleted_at, r.restored_at
FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (SELECT * FROM acceptance WHERE topic_id = g.id OFFSET 0) AS a
LEFT JOIN LATERAL (SELECT * FROM reply WHERE reply.reply_id = a.reply_id OFFSET 0) AS r ON true;

-- name: read_responses
SELECT f.topic_id AS of_topic_id, f.reply_id, f.within_target,
    r.topic_id, r.posted_at, r.author_id, r.author_kind, r.visibility, r.backfill, r.deleted_at, r.restored_at
FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (SELECT * FROM first_response WHERE topic_id = g.id OFFSET 0) AS f
CROSS JOIN LATERAL (SELECT * FROM reply WHERE reply.reply_id = f.reply_id AND posted_at IS NOT NULL OFFSET 0) AS r;

-- name: read_kudos
-- All on replies that changed.
SELECT k.* FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT kudos_id, reply_id, giver_id, given_at, backfill, revoked_at FROM kudos
    WHERE reply_id = g.id AND given_at IS NOT NULL OFFSET 0
) AS k;

-- name: earliest_kudos
-- Of a giver on a reply those that were not taken back, as many as could be the earliest before or after.
SELECT k.*
FROM unnest($1::text[], $2::text[], $3::int[]) AS g (reply_id, giver_id, most)
CROSS JOIN LATERAL (
    SELECT kudos_id, reply_id, giver_id, given_at, backfill, revoked_at FROM kudos
    WHERE kudos.reply_id = g.reply_id AND kudos.giver_id = g.giver_id AND given_at IS NOT NULL
        AND (revoked_at IS NULL OR revoked_at < given_at)
    ORDER BY given_at, kudos_id LIMIT g.most OFFSET 0
) AS k;

-- name: member_groups
-- Of each member all ids that stand for the same, the root first; members without aliases are left out.
SELECT g.id, a.root, array(SELECT o.id FROM alias AS o WHERE o.what = 'member' AND o.root = a.root) AS others
FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT root FROM alias WHERE what = 'member' AND alias.id = g.id
    UNION ALL
    (SELECT root FROM alias WHERE what = 'member' AND alias.root = g.id LIMIT 1)
) AS a;

-- name: star_changes
SELECT s.* FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (SELECT member_id, at, appointed FROM star_change WHERE member_id = g.id OFFSET 0) AS s;

-- name: stored_solutions
-- Those that were written for these topics: what names them is not their reply alone, but also the topic, which may
-- stand for another by now.
SELECT l.entry_id FROM unnest($1::text[]) AS g (id)
CROSS JOIN LATERAL (
    SELECT entry_id FROM ledger WHERE topic_id = g.id AND epoch = $2 AND rule = 'solution' OFFSET 0
) AS l;

-- name: write_entries
-- What differs is written, and goes to the boards' queue: what an effective entry was, and what one is now.
WITH written AS (
    INSERT INTO ledger AS l (
        epoch, entry_id, points, rule, member_id, status, reason, topic_id, reply_id, kudos_id, at, space, language,
        star, backfill
    )
    SELECT $1, entry_id, points, rule, member_id, status, reason, topic_id, reply_id, kudos_id, at, space, language,
        star, backfill
    FROM unnest(
        $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::timestamptz[], $12::text[], $13::text[], $14::boolean[], $15::boolean[]
    ) AS given (
        entry_id, points, rule, member_id, status, reason, topic_id, reply_id, kudos_id, at, space, language, star,
        backfill
    )
    ORDER BY entry_id
    ON CONFLICT (entry_id, epoch) DO UPDATE SET
        points = excluded.points, member_id = excluded.member_id, status = excluded.status, reason = excluded.reason,
        topic_id = excluded.topic_id, reply_id = excluded.reply_id, at = excluded.at, space = excluded.space,
        language = excluded.language, star = excluded.star, backfill = excluded.backfill, changed_at = now()
    WHERE (l.points, l.member_id, l.status, l.reason, l.topic_id, l.reply_id, l.at, l.space, l.language, l.star)
        IS DISTINCT FROM (excluded.points, excluded.member_id, excluded.status, excluded.reason, excluded.topic_id,
        excluded.reply_id, excluded.at, excluded.space, excluded.language, excluded.star)
    RETURNING entry_id, rule, kudos_id, coalesce(old.status = 'effective', false) AS was,
        new.status = 'effective' AS is_now,
        old.points AS old_points, old.member_id AS old_member_id, old.topic_id AS old_topic_id,
        old.reply_id AS old_reply_id, old.at AS old_at, old.space AS old_space, old.language AS old_language,
        old.star AS old_star, new.points AS points, new.member_id AS member_id, new.topic_id AS topic_id,
        new.reply_id AS reply_id, new.at AS at, new.space AS space, new.language AS language, new.star AS star,
        new.backfill AS backfill
), marked AS (
    -- $16: by topic, whether what changed it was history, and its trace; $17 and $18 for all others.
    SELECT w.*, coalesce(($16::jsonb -> topic_id ->> 0)::boolean, $17) AS mark_backfill,
        coalesce($16::jsonb -> topic_id ->> 1, $18) AS traceparent
    FROM written AS w
    WHERE was OR is_now
)
INSERT INTO changed (
    epoch, sign, points, entry_id, rule, member_id, topic_id, reply_id, kudos_id, at, space, language, star, backfill,
    traceparent
)
SELECT $1, -1, old_points, entry_id, rule, old_member_id, old_topic_id, old_reply_id, kudos_id, old_at, old_space,
    old_language, old_star, mark_backfill, traceparent
FROM marked WHERE was
UNION ALL
SELECT $1, 1, points, entry_id, rule, member_id, topic_id, reply_id, kudos_id, at, space, language, star, backfill,
    traceparent
FROM marked WHERE is_now;

-- name: delete_entries
WITH gone AS (
    DELETE FROM ledger WHERE epoch = $1 AND entry_id = ANY($2::text[]) RETURNING *
)
INSERT INTO changed (
    epoch, sign, points, entry_id, rule, member_id, topic_id, reply_id, kudos_id, at, space, language, star, backfill,
    traceparent
)
SELECT $1, -1, points, entry_id, rule, member_id, topic_id, reply_id, kudos_id, at, space, language, star,
    coalesce(($3::jsonb -> topic_id ->> 0)::boolean, $4), coalesce($3::jsonb -> topic_id ->> 1, $5)
FROM gone WHERE status = 'effective';

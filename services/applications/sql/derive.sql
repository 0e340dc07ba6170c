-- Whose months a batch touched, and what is true of them. A month is recomputed from facts by key: never added to.

-- name: touch_replies
-- Where replies were and where they are: by author and instant, as arrays.
INSERT INTO changed (member_id, month, backfill)
SELECT DISTINCT author_id, date_trunc('month', posted_at)::date, $3::boolean
FROM unnest($1::text[], $2::timestamptz[]) AS given (author_id, posted_at);

-- name: touch_topics
-- Every reply in these topics, and in what stands for the same or is merged into them.
WITH named AS (
    SELECT unnest($1::text[]) AS id
), heads AS (
    SELECT id FROM named UNION SELECT root FROM alias WHERE what = 'topic' AND id = ANY($1::text[])
), everything AS (
    SELECT id FROM heads UNION
    SELECT a.id FROM heads CROSS JOIN LATERAL (SELECT id FROM alias WHERE what = 'topic' AND root = heads.id OFFSET 0) AS a
)
INSERT INTO changed (member_id, month, backfill)
SELECT DISTINCT r.author_id, r.month, $2::boolean
FROM everything CROSS JOIN LATERAL (
    SELECT author_id, date_trunc('month', posted_at)::date AS month FROM reply
    WHERE topic_id = everything.id AND posted_at IS NOT NULL OFFSET 0
) AS r;

-- name: touch_solutions
-- Every reply that was ever accepted in these topics: one of them lost what another has won.
WITH named AS (
    SELECT unnest($1::text[]) AS id
), heads AS (
    SELECT id FROM named UNION SELECT root FROM alias WHERE what = 'topic' AND id = ANY($1::text[])
), everything AS (
    SELECT id FROM heads UNION
    SELECT a.id FROM heads CROSS JOIN LATERAL (SELECT id FROM alias WHERE what = 'topic' AND root = heads.id OFFSET 0) AS a
)
INSERT INTO changed (member_id, month, backfill)
SELECT DISTINCT r.author_id, date_trunc('month', r.posted_at)::date, $2::boolean
FROM everything
CROSS JOIN LATERAL (SELECT reply_id FROM acceptance WHERE topic_id = everything.id OFFSET 0) AS a
CROSS JOIN LATERAL (
    SELECT author_id, posted_at FROM reply WHERE reply_id = a.reply_id AND posted_at IS NOT NULL OFFSET 0
) AS r;

-- name: touch_replies_by_id
INSERT INTO changed (member_id, month, backfill)
SELECT DISTINCT r.author_id, date_trunc('month', r.posted_at)::date, $2::boolean
FROM unnest($1::text[]) AS given (reply_id)
CROSS JOIN LATERAL (
    SELECT author_id, posted_at FROM reply WHERE reply.reply_id = given.reply_id AND posted_at IS NOT NULL OFFSET 0
) AS r;

-- name: touch_members
-- Whom an id stands for, or what is known of a member, changed: all their months, and whether they are eligible.
INSERT INTO changed (member_id, month, backfill)
SELECT given.id, m.month, $2::boolean
FROM unnest($1::text[]) AS given (id)
CROSS JOIN LATERAL (
    SELECT DISTINCT date_trunc('month', posted_at)::date AS month FROM reply
    WHERE author_id = given.id AND posted_at IS NOT NULL
    UNION SELECT month FROM contribution WHERE member_id = given.id
    UNION SELECT NULL
) AS m;

-- name: touch_everyone
-- But for those who wait: what they wait for says whether it is history.
INSERT INTO changed (member_id, month, backfill)
SELECT member_id, NULL::date, $1::boolean
FROM (SELECT member_id FROM contribution UNION SELECT member_id FROM member UNION SELECT member_id FROM eligible) AS everyone
WHERE NOT EXISTS (SELECT FROM changed AS c WHERE c.member_id = everyone.member_id);

-- name: look_again_today
-- Whether it is the first look of all; null: today was looked at.
UPDATE programme SET looked_on = (now() AT TIME ZONE 'UTC')::date
WHERE looked_on IS DISTINCT FROM (now() AT TIME ZONE 'UTC')::date RETURNING old.looked_on IS NULL;

-- name: fold_suspensions
INSERT INTO suspension AS s (member_id, suspended_at)
SELECT member_id, max(at) FROM unnest($1::text[], $2::timestamptz[]) AS given (member_id, at)
GROUP BY member_id ORDER BY member_id
ON CONFLICT (member_id) DO UPDATE SET suspended_at = excluded.suspended_at WHERE excluded.suspended_at > s.suspended_at;

-- name: something_changed
SELECT EXISTS (SELECT FROM changed);

-- name: take_changed
WITH gone AS (
    DELETE FROM changed WHERE id = ANY(ARRAY(SELECT id FROM changed ORDER BY id LIMIT $1))
    RETURNING member_id, month, backfill
)
SELECT member_id, month, bool_and(backfill) AS backfill FROM gone GROUP BY member_id, month;

-- name: roots
-- Of ids that stand for another, for whom; and which are nobody's any more.
SELECT id, root, EXISTS (SELECT FROM erased WHERE stand_in = root) AS is_erased
FROM alias WHERE what = 'member' AND id = ANY($1::text[])
UNION ALL
SELECT stand_in, stand_in, true FROM erased WHERE stand_in = ANY($1::text[]);

-- name: read_contributions
-- Of each member (by the one they stand for) in a month: their replies to others, and what became of them.
SELECT g.member_id, g.month, coalesce(t.space, '') AS space, coalesce(t.language, '') AS language,
    count(*)::int AS replies, (count(*) FILTER (WHERE f.solution))::int AS solutions,
    (count(*) FILTER (WHERE f.first))::int AS first_responses, sum(f.kudos)::int AS kudos
FROM unnest($1::text[], $2::date[]) AS g (member_id, month)
CROSS JOIN LATERAL (
    SELECT g.member_id AS id UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = g.member_id
) AS who
CROSS JOIN LATERAL (
    SELECT reply_id, topic_id FROM reply
    WHERE author_id = who.id AND posted_at >= g.month AND posted_at < g.month + interval '1 month'
        AND stands AND author_kind <> 'bot' AND topic_id IS NOT NULL
    OFFSET 0
) AS r
CROSS JOIN LATERAL (
    SELECT coalesce((SELECT root FROM alias WHERE what = 'topic' AND id = r.topic_id), r.topic_id) AS id OFFSET 0
) AS top
CROSS JOIN LATERAL (
    SELECT space, language,
        array(SELECT top.id UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'topic' AND a.root = top.id) AS ids
    FROM topic
    WHERE topic_id = top.id AND created_at IS NOT NULL
        AND (deleted_at IS NULL OR coalesce(restored_at > deleted_at, false))
    OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT EXISTS (
            SELECT FROM topic AS o LEFT JOIN alias AS a ON a.what = 'member' AND a.id = o.author_id
            WHERE o.topic_id = ANY(t.ids) AND o.created_at IS NOT NULL AND coalesce(a.root, o.author_id) = g.member_id
        ) AS own,
        coalesce((
            SELECT a.reply_id = r.reply_id AND (a.revoked_at IS NULL OR a.revoked_at < a.accepted_at)
            FROM acceptance AS a WHERE a.topic_id = ANY(t.ids) AND a.accepted_at IS NOT NULL
            ORDER BY a.accepted_stamp DESC LIMIT 1
        ), false) AS solution,
        EXISTS (SELECT FROM first_response AS f WHERE f.reply_id = r.reply_id AND f.topic_id = ANY(t.ids)) AS first,
        (
            SELECT count(DISTINCT coalesce('by ' || coalesce(a.root, k.giver_id), 'vote ' || k.kudos_id))
            FROM kudos AS k LEFT JOIN alias AS a ON a.what = 'member' AND a.id = k.giver_id
            WHERE k.reply_id = r.reply_id AND k.given_at IS NOT NULL
                AND (k.revoked_at IS NULL OR k.revoked_at < k.given_at)
                AND coalesce(a.root, k.giver_id) IS DISTINCT FROM g.member_id
        ) AS kudos
    OFFSET 0
) AS f
WHERE NOT f.own
GROUP BY 1, 2, 3, 4;

-- name: delete_contributions
DELETE FROM contribution WHERE ctid = ANY(ARRAY(
    SELECT c.ctid FROM unnest($1::text[], $2::date[]) AS g (member_id, month)
    CROSS JOIN LATERAL (
        SELECT ctid FROM contribution WHERE member_id = g.member_id AND contribution.month = g.month OFFSET 0
    ) AS c
));

-- name: write_contributions
INSERT INTO contribution (member_id, month, space, language, replies, solutions, first_responses, kudos)
SELECT * FROM unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::int[], $6::int[], $7::int[], $8::int[])
ORDER BY 1, 2, 3, 4;

-- name: contributions_of
SELECT member_id, month, space, language, replies, solutions, first_responses, kudos
FROM contribution WHERE member_id = ANY($1::text[]) ORDER BY member_id, month, space, language;

-- name: standing_of
-- What is known of members beside their replies: by the one whom their accounts stand for.
SELECT g.id AS member_id, m.name, m.status, m.languages, m.joined_at, (
        SELECT max(s.suspended_at) FROM suspension AS s
        WHERE s.member_id = g.id
            OR s.member_id IN (SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = g.id)
    ) AS suspended_at
FROM unnest($1::text[]) AS g (id) LEFT JOIN member AS m ON m.member_id = g.id;

-- name: write_eligible
INSERT INTO eligible (member_id, edition) SELECT member_id, $2 FROM unnest($1::text[]) AS given (member_id)
ORDER BY member_id
ON CONFLICT (member_id) DO UPDATE SET edition = excluded.edition WHERE eligible.edition <> excluded.edition
RETURNING new.member_id, old.member_id IS NULL AS is_new;

-- name: delete_eligible
DELETE FROM eligible WHERE member_id = ANY($1::text[]);

-- name: invite
-- Those who were never invited, never applied and are no Stars, by any account of theirs.
INSERT INTO invitation (member_id, edition)
SELECT member_id, $2 FROM unnest($1::text[]) AS given (member_id)
CROSS JOIN LATERAL (
    SELECT array(
        SELECT given.member_id UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = given.member_id
    ) AS ids
) AS who
WHERE NOT EXISTS (SELECT FROM membership AS m WHERE m.member_id = ANY(who.ids))
    AND NOT EXISTS (SELECT FROM application AS a WHERE a.member_id = ANY(who.ids))
    AND NOT EXISTS (SELECT FROM invitation AS i WHERE i.member_id = ANY(who.ids))
ORDER BY member_id
ON CONFLICT DO NOTHING
RETURNING member_id, invited_at;

-- name: erase
DELETE FROM contribution WHERE member_id = ANY($1::text[]);

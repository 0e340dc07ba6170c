-- Each block folds a batch into registers: one sorted upsert, rewriting only rows that change, returning those.

-- name: share_lock
SELECT pg_advisory_xact_lock_shared(4829119, hashtext(current_schema));

-- name: exclusive_lock
SELECT pg_advisory_xact_lock(4829119, hashtext(current_schema));

-- name: begin_batch
SELECT * FROM begin_batch($1);

-- name: fold_topics
INSERT INTO topic AS t (
    topic_id, created_stamp, created_at, author_id, author_kind, url, appended_at, backfill, title_stamp, title,
    tags_stamp, tags, language_stamp, language, kind_stamp, kind, space_stamp, space, merged_stamp, into_topic_id,
    closed_at, reopened_at, deleted_at, restored_at
)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::boolean[],
    $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::text[], $14::text[], $15::text[], $16::text[],
    $17::text[], $18::text[], $19::text[], $20::text[], $21::timestamptz[], $22::timestamptz[], $23::timestamptz[],
    $24::timestamptz[]
) AS given (topic_id)
ORDER BY given.topic_id
ON CONFLICT (topic_id) DO UPDATE SET
    created_stamp = greatest(t.created_stamp, excluded.created_stamp),
    created_at = CASE WHEN excluded.created_stamp > t.created_stamp THEN excluded.created_at ELSE t.created_at END,
    author_id = CASE WHEN excluded.created_stamp > t.created_stamp THEN excluded.author_id ELSE t.author_id END,
    author_kind = CASE WHEN excluded.created_stamp > t.created_stamp THEN excluded.author_kind ELSE t.author_kind END,
    url = CASE WHEN excluded.created_stamp > t.created_stamp THEN excluded.url ELSE t.url END,
    appended_at = least(t.appended_at, excluded.appended_at),
    backfill = coalesce(t.backfill AND excluded.backfill, t.backfill, excluded.backfill),
    title_stamp = greatest(t.title_stamp, excluded.title_stamp),
    title = CASE WHEN excluded.title_stamp > t.title_stamp THEN excluded.title ELSE t.title END,
    tags_stamp = greatest(t.tags_stamp, excluded.tags_stamp),
    tags = CASE WHEN excluded.tags_stamp > t.tags_stamp THEN excluded.tags ELSE t.tags END,
    language_stamp = greatest(t.language_stamp, excluded.language_stamp),
    language = CASE WHEN excluded.language_stamp > t.language_stamp THEN excluded.language ELSE t.language END,
    kind_stamp = greatest(t.kind_stamp, excluded.kind_stamp),
    kind = CASE WHEN excluded.kind_stamp > t.kind_stamp THEN excluded.kind ELSE t.kind END,
    space_stamp = greatest(t.space_stamp, excluded.space_stamp),
    space = CASE WHEN excluded.space_stamp > t.space_stamp THEN excluded.space ELSE t.space END,
    merged_stamp = greatest(t.merged_stamp, excluded.merged_stamp),
    into_topic_id = CASE WHEN excluded.merged_stamp > t.merged_stamp THEN excluded.into_topic_id ELSE t.into_topic_id END,
    closed_at = greatest(t.closed_at, excluded.closed_at),
    reopened_at = greatest(t.reopened_at, excluded.reopened_at),
    deleted_at = greatest(t.deleted_at, excluded.deleted_at),
    restored_at = greatest(t.restored_at, excluded.restored_at)
WHERE excluded.created_stamp > t.created_stamp
    OR excluded.appended_at < t.appended_at
    OR (t.backfill AND NOT excluded.backfill)
    OR excluded.title_stamp > t.title_stamp
    OR excluded.tags_stamp > t.tags_stamp
    OR excluded.language_stamp > t.language_stamp
    OR excluded.kind_stamp > t.kind_stamp
    OR excluded.space_stamp > t.space_stamp
    OR excluded.merged_stamp > t.merged_stamp
    OR greatest(excluded.closed_at, t.closed_at) IS DISTINCT FROM t.closed_at
    OR greatest(excluded.reopened_at, t.reopened_at) IS DISTINCT FROM t.reopened_at
    OR greatest(excluded.deleted_at, t.deleted_at) IS DISTINCT FROM t.deleted_at
    OR greatest(excluded.restored_at, t.restored_at) IS DISTINCT FROM t.restored_at
RETURNING new.topic_id, old.into_topic_id AS left_topic_id, new.into_topic_id,
    new.into_topic_id IS DISTINCT FROM old.into_topic_id AS relinked;

-- name: fold_replies
-- $12: replies of which nothing is said, and whose rows are to be held.
INSERT INTO reply AS r (
    reply_id, topic_stamp, topic_id, posted_stamp, posted_at, author_id, author_kind, visibility, backfill,
    deleted_at, restored_at
)
SELECT * FROM (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
        $9::boolean[], $10::timestamptz[], $11::timestamptz[]
    )
    UNION ALL
    SELECT reply_id, '', NULL, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM unnest($12::text[]) AS held (reply_id)
) AS given (reply_id)
ORDER BY given.reply_id
ON CONFLICT (reply_id) DO UPDATE SET
    topic_stamp = greatest(r.topic_stamp, excluded.topic_stamp),
    topic_id = CASE WHEN excluded.topic_stamp > r.topic_stamp THEN excluded.topic_id ELSE r.topic_id END,
    posted_stamp = greatest(r.posted_stamp, excluded.posted_stamp),
    posted_at = CASE WHEN excluded.posted_stamp > r.posted_stamp THEN excluded.posted_at ELSE r.posted_at END,
    author_id = CASE WHEN excluded.posted_stamp > r.posted_stamp THEN excluded.author_id ELSE r.author_id END,
    author_kind = CASE WHEN excluded.posted_stamp > r.posted_stamp THEN excluded.author_kind ELSE r.author_kind END,
    visibility = CASE WHEN excluded.posted_stamp > r.posted_stamp THEN excluded.visibility ELSE r.visibility END,
    backfill = coalesce(r.backfill AND excluded.backfill, r.backfill, excluded.backfill),
    deleted_at = greatest(r.deleted_at, excluded.deleted_at),
    restored_at = greatest(r.restored_at, excluded.restored_at)
WHERE excluded.topic_stamp > r.topic_stamp
    OR excluded.posted_stamp > r.posted_stamp
    OR (r.backfill AND NOT excluded.backfill)
    OR greatest(excluded.deleted_at, r.deleted_at) IS DISTINCT FROM r.deleted_at
    OR greatest(excluded.restored_at, r.restored_at) IS DISTINCT FROM r.restored_at
RETURNING new.reply_id, old.topic_id AS left_topic_id, new.topic_id, old.author_id AS left_author_id, new.author_id,
    old.posted_at AS left_posted_at, new.posted_at, new.author_kind, new.visibility, new.backfill, new.deleted_at,
    new.restored_at;

-- name: fold_acceptances
INSERT INTO acceptance AS a (topic_id, reply_id, accepted_stamp, accepted_at, backfill, revoked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::boolean[], $6::timestamptz[])
    AS given (topic_id, reply_id)
ORDER BY given.topic_id, given.reply_id
ON CONFLICT (topic_id, reply_id) DO UPDATE SET
    accepted_stamp = greatest(a.accepted_stamp, excluded.accepted_stamp),
    accepted_at = CASE WHEN excluded.accepted_stamp > a.accepted_stamp THEN excluded.accepted_at ELSE a.accepted_at END,
    backfill = coalesce(a.backfill AND excluded.backfill, a.backfill, excluded.backfill),
    revoked_at = greatest(a.revoked_at, excluded.revoked_at)
WHERE excluded.accepted_stamp > a.accepted_stamp
    OR (a.backfill AND NOT excluded.backfill)
    OR greatest(excluded.revoked_at, a.revoked_at) IS DISTINCT FROM a.revoked_at
RETURNING new.topic_id, new.reply_id;

-- name: fold_kudos
INSERT INTO kudos AS k (kudos_id, given_stamp, given_at, topic_id, reply_id, giver_id, backfill, revoked_at)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::timestamptz[]
) AS given (kudos_id)
ORDER BY given.kudos_id
ON CONFLICT (kudos_id) DO UPDATE SET
    given_stamp = greatest(k.given_stamp, excluded.given_stamp),
    given_at = CASE WHEN excluded.given_stamp > k.given_stamp THEN excluded.given_at ELSE k.given_at END,
    topic_id = CASE WHEN excluded.given_stamp > k.given_stamp THEN excluded.topic_id ELSE k.topic_id END,
    reply_id = CASE WHEN excluded.given_stamp > k.given_stamp THEN excluded.reply_id ELSE k.reply_id END,
    giver_id = CASE WHEN excluded.given_stamp > k.given_stamp THEN excluded.giver_id ELSE k.giver_id END,
    backfill = coalesce(k.backfill AND excluded.backfill, k.backfill, excluded.backfill),
    revoked_at = greatest(k.revoked_at, excluded.revoked_at)
WHERE excluded.given_stamp > k.given_stamp
    OR (k.backfill AND NOT excluded.backfill)
    OR greatest(excluded.revoked_at, k.revoked_at) IS DISTINCT FROM k.revoked_at
RETURNING new.kudos_id, old.reply_id AS left_reply_id, new.reply_id, old.giver_id AS left_giver_id, new.giver_id,
    new.given_at, new.backfill, new.revoked_at;

-- name: fold_responses
INSERT INTO first_response AS f (topic_id, sequence, reply_id, within_target, backfill)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::boolean[], $5::boolean[]) AS given (topic_id)
ORDER BY given.topic_id
ON CONFLICT (topic_id) DO UPDATE SET
    sequence = excluded.sequence, reply_id = excluded.reply_id, within_target = excluded.within_target,
    backfill = excluded.backfill
WHERE excluded.sequence > f.sequence
RETURNING topic_id;

-- name: fold_members
INSERT INTO member AS m (member_id, stamp, status, into_member_id, name, locale, time_zone, languages, joined_at)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::timestamptz[]
) AS given (member_id)
ORDER BY given.member_id
ON CONFLICT (member_id) DO UPDATE SET
    stamp = excluded.stamp, status = excluded.status, into_member_id = excluded.into_member_id, name = excluded.name,
    locale = excluded.locale, time_zone = excluded.time_zone, languages = excluded.languages,
    joined_at = excluded.joined_at
WHERE excluded.stamp > m.stamp
RETURNING new.member_id, old.into_member_id AS left_member_id, new.into_member_id,
    new.into_member_id IS DISTINCT FROM old.into_member_id AS relinked;

-- name: fold_stars
INSERT INTO star_change (member_id, at, appointed)
SELECT DISTINCT * FROM unnest($1::text[], $2::timestamptz[], $3::boolean[]) AS given (member_id, at, appointed)
ORDER BY member_id, at, appointed
ON CONFLICT DO NOTHING
RETURNING member_id;

-- name: erased_among
SELECT stand_in FROM erased WHERE stand_in = ANY($1::text[]);

-- name: write_erased
INSERT INTO erased (stand_in) SELECT stand_in FROM unnest($1::text[]) AS given (stand_in) ORDER BY stand_in
ON CONFLICT DO NOTHING;

-- name: aliases_of
SELECT id, root FROM alias WHERE what = $1 AND id = ANY($2::text[])
UNION
SELECT id, root FROM alias WHERE what = $1 AND root = ANY($3::text[]);

-- name: topic_links
SELECT topic_id AS id, into_topic_id AS target FROM topic WHERE topic_id = ANY($1::text[]) AND into_topic_id IS NOT NULL
UNION
SELECT topic_id, into_topic_id FROM topic WHERE into_topic_id = ANY($1::text[]);

-- name: member_links
SELECT member_id AS id, into_member_id AS target FROM member
WHERE member_id = ANY($1::text[]) AND into_member_id IS NOT NULL
UNION
SELECT member_id, into_member_id FROM member WHERE into_member_id = ANY($1::text[]);

-- name: delete_aliases
DELETE FROM alias WHERE what = $1 AND id = ANY($2::text[]);

-- name: write_aliases
INSERT INTO alias (what, id, root)
SELECT $1, id, root FROM unnest($2::text[], $3::text[]) AS given (id, root) ORDER BY id
ON CONFLICT (what, id) DO UPDATE SET root = excluded.root WHERE alias.root <> excluded.root;

-- name: topics_naming
-- Every topic in which one of these members asked or replied, or where a reply of theirs was accepted that lies elsewhere.
SELECT topic_id FROM topic WHERE author_id = ANY($1::text[])
UNION
SELECT topic_id FROM reply WHERE author_id = ANY($1::text[]) AND topic_id IS NOT NULL
UNION
SELECT a.topic_id FROM reply AS r
CROSS JOIN LATERAL (SELECT topic_id FROM acceptance WHERE acceptance.reply_id = r.reply_id OFFSET 0) AS a
WHERE r.author_id = ANY($1::text[]);

-- name: kudos_naming
SELECT kudos_id, reply_id AS left_reply_id, reply_id, giver_id AS left_giver_id, giver_id, given_at, backfill, revoked_at
FROM kudos WHERE giver_id = ANY($1::text[]) AND reply_id IS NOT NULL;

-- name: erase_from_topics
UPDATE topic AS t SET author_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE t.author_id = given.id;

-- name: erase_from_replies
UPDATE reply AS r SET author_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE r.author_id = given.id;

-- name: erase_from_kudos
UPDATE kudos AS k SET giver_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE k.giver_id = given.id;

-- name: erase_from_stars
WITH gone AS (
    DELETE FROM star_change AS s USING unnest($1::text[], $2::text[]) AS given (id, stand_in)
    WHERE s.member_id = given.id RETURNING given.stand_in, s.at, s.appointed
)
INSERT INTO star_change (member_id, at, appointed) SELECT stand_in, at, appointed FROM gone ON CONFLICT DO NOTHING;

-- name: erase_links
UPDATE member AS m SET into_member_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE m.into_member_id = given.id;

-- name: erase_members
DELETE FROM member WHERE member_id = ANY($1::text[]);

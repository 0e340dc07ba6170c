-- name: fold_contacts
INSERT INTO contact AS c (member_id, stamp, email)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS given (member_id, stamp, email)
ORDER BY member_id
ON CONFLICT (member_id) DO UPDATE SET stamp = excluded.stamp, email = excluded.email
WHERE excluded.stamp > c.stamp
RETURNING new.member_id;

-- name: fold_ranks
INSERT INTO star_rank AS r (member_id, stamp, rank)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS given (member_id, stamp, rank)
ORDER BY member_id
ON CONFLICT (member_id) DO UPDATE SET stamp = excluded.stamp, rank = excluded.rank WHERE excluded.stamp > r.stamp;

-- name: wake_waiting
-- What waited for an address is looked at now. Whoever claims it at this moment is waited for: they may have decided
-- without the address.
UPDATE delivery SET due_at = now()
WHERE delivery_id IN (
    SELECT delivery_id FROM delivery
    WHERE member_id = ANY($1::text[]) AND channel = 'email' AND state = 'pending'
    ORDER BY delivery_id FOR UPDATE
);

-- name: fold_topics
INSERT INTO topic_now AS t (
    topic_id, response_sequence, answered_at, within_target, kind, claim_sequence, claimed_by, claimed_until, breached_at
)
SELECT * FROM unnest(
    $1::text[], $2::bigint[], $3::timestamptz[], $4::boolean[], $5::text[], $6::bigint[], $7::text[],
    $8::timestamptz[], $9::timestamptz[]
) AS given (topic_id)
ORDER BY given.topic_id
ON CONFLICT (topic_id) DO UPDATE SET
    response_sequence = greatest(t.response_sequence, excluded.response_sequence),
    answered_at = CASE WHEN excluded.response_sequence >= coalesce(t.response_sequence, 0)
        THEN excluded.answered_at ELSE t.answered_at END,
    within_target = CASE WHEN excluded.response_sequence >= coalesce(t.response_sequence, 0)
        THEN excluded.within_target ELSE t.within_target END,
    kind = CASE WHEN excluded.response_sequence >= coalesce(t.response_sequence, 0) THEN excluded.kind ELSE t.kind END,
    claim_sequence = greatest(t.claim_sequence, excluded.claim_sequence),
    claimed_by = CASE WHEN excluded.claim_sequence >= coalesce(t.claim_sequence, 0)
        THEN excluded.claimed_by ELSE t.claimed_by END,
    claimed_until = CASE WHEN excluded.claim_sequence >= coalesce(t.claim_sequence, 0)
        THEN excluded.claimed_until ELSE t.claimed_until END,
    breached_at = coalesce(excluded.breached_at, t.breached_at)
RETURNING new.topic_id;

-- name: look_again
-- One job a topic, begun anew where one is under way.
INSERT INTO job AS j (key, kind, data)
SELECT 'look-again ' || n.topic_id, 'look-again', jsonb_build_object('topic_id', n.topic_id)
FROM (
    SELECT t.topic_id FROM unnest($1::text[]) AS t (topic_id)
    WHERE EXISTS (SELECT FROM notification WHERE notification.topic_id = t.topic_id)
    ORDER BY t.topic_id
) AS n
ON CONFLICT (key) DO UPDATE SET after = '', done_at = NULL, not_before = now();

-- name: write_jobs
INSERT INTO job (key, kind, data, actor_id, not_before)
SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::text[], $5::timestamptz[])
    AS given (key, kind, data, actor_id, not_before)
ORDER BY key
ON CONFLICT (key) DO NOTHING;

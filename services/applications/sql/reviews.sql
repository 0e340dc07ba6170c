-- name: queue
SELECT a.application_id, coalesce(al.root, a.member_id) AS member_id, a.state, a.edition, a.review_due,
    coalesce(a.closed_at, a.review_since, a.created_at) AS since,
    coalesce(a.state = 'in-review' AND a.review_due < now(), false) AS late,
    (SELECT count(*) FROM (
        SELECT bool_or(r.conflict) AS conflict FROM review AS r LEFT JOIN alias AS w ON w.what = 'member' AND w.id = r.reviewer_id
        WHERE r.application_id = a.application_id GROUP BY coalesce(w.root, r.reviewer_id)
    ) AS each WHERE NOT each.conflict) AS reviews,
    EXISTS (SELECT FROM review AS r WHERE r.application_id = a.application_id AND r.reviewer_id = ANY($2::text[])
        AND NOT conflict) AS mine,
    EXISTS (SELECT FROM review AS r WHERE r.application_id = a.application_id AND r.reviewer_id = ANY($2::text[])
        AND conflict) AS conflict
FROM application AS a LEFT JOIN alias AS al ON al.what = 'member' AND al.id = a.member_id
WHERE a.state = $1 AND a.submitted_at IS NOT NULL AND ($3::timestamptz IS NULL
    OR (coalesce(a.closed_at, a.review_since, a.created_at), a.application_id) > ($3, $4::text))
ORDER BY coalesce(a.closed_at, a.review_since, a.created_at), a.application_id LIMIT $5;

-- name: application
SELECT * FROM application WHERE application_id = $1 AND submitted_at IS NOT NULL;

-- name: lock
SELECT * FROM application WHERE application_id = $1 AND submitted_at IS NOT NULL FOR UPDATE;

-- name: reviews
-- One a person, whatever accounts they had: that they stand too near, else what they said last.
SELECT * FROM (
    SELECT DISTINCT ON (reviewer_id) coalesce(a.root, r.reviewer_id) AS reviewer_id, r.scores, r.note, r.conflict, r.given_at
    FROM review AS r LEFT JOIN alias AS a ON a.what = 'member' AND a.id = r.reviewer_id
    WHERE r.application_id = $1 ORDER BY reviewer_id, r.conflict DESC, r.given_at DESC
) AS each ORDER BY given_at, reviewer_id;

-- name: give
INSERT INTO review (application_id, reviewer_id, scores, note, conflict) VALUES ($1, $2, $3::jsonb, $4, $5)
ON CONFLICT (application_id, reviewer_id) DO UPDATE SET scores = excluded.scores, note = excluded.note,
    conflict = excluded.conflict, given_at = now();

-- name: discuss
INSERT INTO discussion (application_id, author_id, text) VALUES ($1, $2, $3);

-- name: discussion
SELECT author_id, text, at FROM discussion WHERE application_id = $1 ORDER BY note_id;

-- name: earlier
SELECT application_id, edition, state, submitted_at, closed_at, outcome, reason FROM application
WHERE member_id = ANY($1::text[]) AND application_id <> $2 AND submitted_at IS NOT NULL ORDER BY submitted_at DESC;

-- name: evidence
SELECT r.reply_id, r.topic_id, r.posted_at, t.title, t.url, t.space
FROM unnest($1::text[]) AS given (reply_id)
CROSS JOIN LATERAL (SELECT * FROM reply WHERE reply.reply_id = given.reply_id AND stands) AS r
LEFT JOIN topic AS t ON t.topic_id = r.topic_id;

-- name: attempts
SELECT number, started_at, finished_at, ended_by, score, passed FROM quiz_attempt WHERE application_id = $1 ORDER BY number;

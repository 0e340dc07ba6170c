-- name: of_members
-- All applications of a member's ids, the latest first.
SELECT application_id, member_id, edition, state, answers, created_at, submitted_at, closed_at, outcome, reason
FROM application WHERE member_id = ANY($1::text[]) ORDER BY created_at DESC, application_id;

-- name: application
SELECT application_id, member_id, edition, state, answers, created_at, submitted_at, review_since, review_due,
    closed_at, outcome, reason, decided_by
FROM application WHERE application_id = $1;

-- name: lock
SELECT application_id, member_id, edition, state, answers, submitted_at FROM application
WHERE application_id = $1 FOR UPDATE;

-- name: is_star
SELECT EXISTS (SELECT FROM membership WHERE member_id = ANY($1::text[]) AND state <> 'retired');

-- name: submitted_in
SELECT EXISTS (SELECT FROM application WHERE member_id = ANY($1::text[]) AND edition = $2 AND submitted_at IS NOT NULL);

-- name: forget_drafts
-- Drafts that were withdrawn before anybody was to read them: a member has one draft, and the last that was given up.
DELETE FROM application WHERE member_id = ANY($1::text[]) AND submitted_at IS NULL AND closed_at IS NOT NULL;

-- name: begin
WITH made AS (
    INSERT INTO application (application_id, member_id, edition, state, answers)
    VALUES ($1, $2, $3, 'draft', $4::jsonb) RETURNING application_id, member_id, created_at
)
INSERT INTO application_change (application_id, at, action, state, by_id)
SELECT application_id, created_at, 'begin', 'draft', member_id FROM made;

-- name: save
UPDATE application SET answers = $2::jsonb WHERE application_id = $1;

-- name: change
UPDATE application SET state = $2,
    submitted_at = CASE WHEN $2 = 'submitted' THEN coalesce(submitted_at, now()) ELSE submitted_at END,
    review_since = CASE WHEN $2 = 'in-review' THEN now() ELSE review_since END,
    review_due = CASE WHEN $2 = 'in-review' THEN now() + $6::float8 * interval '1 day' ELSE review_due END,
    closed_at = CASE WHEN $3::text IS NOT NULL THEN now() ELSE closed_at END,
    outcome = coalesce($3, outcome), reason = coalesce($4, reason), decided_by = coalesce($5, decided_by)
WHERE application_id = $1
RETURNING now();

-- name: log
INSERT INTO application_change (application_id, at, action, state, by_id, detail) VALUES ($1, $2, $3, $4, $5, $6);

-- name: changes
SELECT at, action, state, by_id, detail FROM application_change WHERE application_id = $1 ORDER BY change_id;

-- name: attempts
SELECT number, started_at, deadline, finished_at, ended_by, score, passed FROM quiz_attempt
WHERE application_id = $1 ORDER BY number;

-- name: abandon_attempt
UPDATE quiz_attempt SET finished_at = quiz_clock(), ended_by = 'withdrawal', score = 0, passed = false
WHERE application_id = $1 AND finished_at IS NULL;

-- name: own_among
SELECT reply_id FROM reply WHERE reply_id = ANY($2::text[]) AND author_id = ANY($1::text[]) AND stands;

-- name: own_replies
SELECT r.reply_id, r.topic_id, r.posted_at, t.title, t.url, t.space
FROM (
    (
        SELECT reply_id, topic_id, posted_at FROM reply
        WHERE author_id = ANY($1::text[]) AND stands AND topic_id IS NOT NULL ORDER BY posted_at DESC, reply_id LIMIT $2
    )
    UNION
    SELECT reply_id, topic_id, posted_at FROM reply
    WHERE reply_id = ANY($3::text[]) AND author_id = ANY($1::text[]) AND stands AND topic_id IS NOT NULL
) AS r LEFT JOIN topic AS t ON t.topic_id = r.topic_id
ORDER BY r.posted_at DESC, r.reply_id;

-- The time is quiz_clock()'s, asked for after the application's row is held.

-- name: latest
SELECT quiz_clock() AS now, a.*
FROM (SELECT 1) AS one LEFT JOIN LATERAL (
    SELECT attempt_id, number, language, started_at, deadline, finished_at, ended_by, score, passed
    FROM quiz_attempt WHERE application_id = $1 ORDER BY number DESC LIMIT 1
) AS a ON true;

-- name: begin
INSERT INTO quiz_attempt (application_id, number, language, started_at, deadline)
VALUES ($1, $2, $3, $4, $4::timestamptz + $5::int * interval '1 second')
RETURNING attempt_id, number, language, started_at, deadline, finished_at, ended_by, score, passed;

-- name: write_questions
INSERT INTO quiz_question (attempt_id, n, question_id, options)
SELECT $1, n, question_id, options::int[] FROM unnest($2::int[], $3::text[], $4::text[]) AS given (n, question_id, options);

-- name: questions
SELECT n, question_id, options, answer FROM quiz_question WHERE attempt_id = $1 ORDER BY n;

-- name: options
SELECT options FROM quiz_question WHERE attempt_id = $1 AND n = $2;

-- name: save
UPDATE quiz_question SET answer = $3, saved_at = $4 WHERE attempt_id = $1 AND n = $2;

-- name: finish
UPDATE quiz_attempt SET finished_at = CASE WHEN $2 = 'time' THEN deadline ELSE quiz_clock() END, ended_by = $2,
    score = $3, passed = $4
WHERE attempt_id = $1 AND finished_at IS NULL;

-- name: due
SELECT a.application_id, a.member_id, a.edition, a.state
FROM quiz_attempt AS q JOIN application AS a USING (application_id)
WHERE q.finished_at IS NULL AND q.deadline <= quiz_clock()
ORDER BY q.deadline LIMIT $1 FOR UPDATE OF a SKIP LOCKED;

-- name: statistics
SELECT q.question_id, count(*) AS seen, count(*) FILTER (WHERE q.options[q.answer + 1] = 0) AS right,
    count(*) FILTER (WHERE q.answer IS NULL) AS blank, count(*) FILTER (WHERE a.passed) AS passed_seen,
    count(*) FILTER (WHERE a.passed AND q.options[q.answer + 1] = 0) AS passed_right,
    count(*) FILTER (WHERE NOT a.passed) AS failed_seen,
    count(*) FILTER (WHERE NOT a.passed AND q.options[q.answer + 1] = 0) AS failed_right
FROM quiz_question AS q JOIN quiz_attempt AS a USING (attempt_id)
WHERE a.finished_at IS NOT NULL AND a.ended_by <> 'withdrawal'
GROUP BY q.question_id
ORDER BY count(*) FILTER (WHERE q.options[q.answer + 1] = 0)::float8 / count(*), q.question_id;

-- name: chosen
SELECT q.question_id, q.options[q.answer + 1] AS option, count(*) AS count
FROM quiz_question AS q JOIN quiz_attempt AS a USING (attempt_id)
WHERE a.finished_at IS NOT NULL AND a.ended_by <> 'withdrawal' AND q.answer IS NOT NULL
GROUP BY 1, 2;

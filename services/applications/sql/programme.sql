-- name: present
SELECT max(edition) FROM edition;

-- name: edition
SELECT edition, document, bank, published_at FROM edition WHERE edition = $1;

-- name: numbers
SELECT edition FROM edition ORDER BY edition DESC;

-- name: bank
SELECT document FROM question_bank WHERE digest = $1;

-- name: latest_bank
SELECT q.digest FROM edition AS e JOIN question_bank AS q ON q.digest = e.bank
WHERE q.document ->> 'bank' = $1 ORDER BY e.edition DESC LIMIT 1;

-- name: lock_editions
SELECT pg_advisory_xact_lock(4829121, hashtext(current_schema));

-- name: keep_bank
INSERT INTO question_bank (digest, document) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: write_edition
INSERT INTO edition (edition, document, bank, published_by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: look_at_everyone
INSERT INTO changed (member_id, month, backfill)
SELECT member_id, NULL::date, false
FROM (SELECT member_id FROM contribution UNION SELECT member_id FROM member UNION SELECT member_id FROM eligible) AS everyone;

-- name: is_inviting
SELECT inviting FROM programme;

-- name: set_inviting
UPDATE programme SET inviting = $1;

-- name: eligible
SELECT e.member_id, e.since, m.name, i.invited_at,
    EXISTS (SELECT FROM membership AS s WHERE s.state <> 'retired' AND s.member_id = ANY(array(
        SELECT e.member_id UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = e.member_id
    ))) AS is_star
FROM eligible AS e
LEFT JOIN member AS m ON m.member_id = e.member_id
LEFT JOIN invitation AS i ON i.member_id = e.member_id
WHERE e.edition = $1 AND ($2::timestamptz IS NULL OR (e.since, e.member_id) < ($2, $3::text))
ORDER BY e.since DESC, e.member_id DESC LIMIT $4;

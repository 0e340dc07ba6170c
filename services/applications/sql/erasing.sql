-- name: contributions
DELETE FROM contribution WHERE member_id = ANY($1::text[]);

-- name: changed
DELETE FROM changed WHERE member_id = ANY($1::text[]);

-- name: eligible
DELETE FROM eligible WHERE member_id = ANY($1::text[]);

-- name: suspensions
DELETE FROM suspension WHERE member_id = ANY($1::text[]);

-- name: invitations
DELETE FROM invitation WHERE member_id = ANY($1::text[]);

-- name: applications
DELETE FROM application WHERE member_id = ANY($1::text[]);

-- name: conflicts
DELETE FROM review WHERE conflict AND reviewer_id = ANY($1::text[]);

-- name: memberships
DELETE FROM membership WHERE member_id = ANY($1::text[]);

-- name: membership_changes
DELETE FROM membership_change WHERE member_id = ANY($1::text[]);

-- name: grants
DELETE FROM perk_grant WHERE member_id = ANY($1::text[]);

-- name: group_members
DELETE FROM group_member WHERE member_id = ANY($1::text[]);

-- name: webhooks
DELETE FROM webhook WHERE member_id = ANY($1::text[]);

-- name: rename_changes
UPDATE application_change AS c SET by_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE c.by_id = given.id;

-- name: rename_decisions
UPDATE application AS a SET decided_by = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE a.decided_by = given.id;

-- name: one_review_each
-- Of several that one person gave by several accounts one stays: they are to have one name.
DELETE FROM review AS r USING unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE r.reviewer_id = given.id AND EXISTS (
    SELECT FROM review AS o LEFT JOIN unnest($1::text[], $2::text[]) AS also (id, stand_in) ON also.id = o.reviewer_id
    WHERE o.application_id = r.application_id AND coalesce(also.stand_in, o.reviewer_id) = given.stand_in
        AND (also.id IS NULL OR (o.given_at, o.reviewer_id) < (r.given_at, r.reviewer_id))
);

-- name: rename_reviewers
UPDATE review AS r SET reviewer_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE r.reviewer_id = given.id;

-- name: rename_discussion
UPDATE discussion AS d SET author_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE d.author_id = given.id;

-- name: rename_membership_changes
UPDATE membership_change AS c SET by_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE c.by_id = given.id;

-- name: rename_grants
UPDATE perk_grant AS g SET granted_by = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE g.granted_by = given.id;

-- name: rename_editions
UPDATE edition AS e SET published_by = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE e.published_by = given.id;

-- name: rename_announcements
UPDATE announcement AS a SET published_by = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE a.published_by = given.id;

-- name: rename_standings
UPDATE season_standing AS s SET member_id = given.stand_in FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE s.member_id = given.id;

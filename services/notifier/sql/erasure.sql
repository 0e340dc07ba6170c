-- name: erase_mail
-- Mails to them, and mails to others in which their name stands.
DELETE FROM mail WHERE member_id = ANY($1::text[]) OR named && $1::text[];

-- name: erase_deliveries
DELETE FROM delivery WHERE member_id = ANY($1::text[]);

-- name: erase_digest_items
DELETE FROM digest_item WHERE digest_id IN (SELECT digest_id FROM digest WHERE member_id = ANY($1::text[]));

-- name: erase_digests
DELETE FROM digest WHERE member_id = ANY($1::text[]);

-- name: erase_notifications
DELETE FROM notification WHERE member_id = ANY($1::text[]);

-- name: erase_contacts
DELETE FROM contact WHERE member_id = ANY($1::text[]);

-- name: erase_own_contacts
DELETE FROM own_contact WHERE member_id = ANY($1::text[]);

-- name: erase_preferences
DELETE FROM preference WHERE member_id = ANY($1::text[]);

-- name: erase_interests
DELETE FROM interest WHERE member_id = ANY($1::text[]);

-- name: erase_push_subscriptions
DELETE FROM push_subscription WHERE member_id = ANY($1::text[]);

-- name: erase_spent
DELETE FROM spent WHERE member_id = ANY($1::text[]);

-- name: erase_suppressions
DELETE FROM suppression WHERE member_id = ANY($1::text[]);

-- name: erase_ranks
DELETE FROM star_rank WHERE member_id = ANY($1::text[]);

-- name: rename_notifications
UPDATE notification AS n SET actor_id = given.stand_in
FROM unnest($1::text[], $2::text[]) AS given (id, stand_in) WHERE n.actor_id = given.id;

-- name: rename_claims
UPDATE topic_now AS t SET claimed_by = given.stand_in
FROM unnest($1::text[], $2::text[]) AS given (id, stand_in) WHERE t.claimed_by = given.id;

-- name: rename_jobs
-- A job's cursor is the last member that it told: one who is gone is no place to go on from, but its bytes are.
UPDATE job AS j SET
    actor_id = CASE WHEN j.actor_id = given.id THEN given.stand_in ELSE j.actor_id END,
    data = CASE WHEN j.data ->> 'never' = given.id THEN j.data || jsonb_build_object('never', given.stand_in) ELSE j.data END,
    after = CASE WHEN j.after = given.id AND j.done_at IS NOT NULL THEN '' ELSE j.after END
FROM unnest($1::text[], $2::text[]) AS given (id, stand_in)
WHERE j.actor_id = given.id OR j.data ->> 'never' = given.id OR j.after = given.id;

-- name: rename_staff
-- Who sent a delivery again, or cancelled it.
UPDATE delivery AS d SET history = (
    SELECT jsonb_agg(CASE WHEN given.id IS NULL THEN entry ELSE entry || jsonb_build_object('by', given.stand_in) END ORDER BY n)
    FROM jsonb_array_elements(d.history) WITH ORDINALITY AS t (entry, n)
    LEFT JOIN unnest($1::text[], $2::text[]) AS given (id, stand_in) ON given.id = entry ->> 'by'
)
WHERE d.by_staff AND EXISTS (
    SELECT FROM unnest($1::text[]) AS given (id) WHERE d.history @> jsonb_build_array(jsonb_build_object('by', given.id))
);

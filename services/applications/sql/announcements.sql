-- name: rank
SELECT rank FROM membership WHERE member_id = ANY($1::text[]) AND state <> 'retired' ORDER BY since DESC LIMIT 1;

-- name: list
-- $1: staff; $2: a Star, be it by their token alone; $3: the rank of their membership, null where they have none.
SELECT announcement_id, title, text, audience, embargo_until, published_at,
    coalesce(embargo_until > now(), false) AS under_embargo
FROM announcement
WHERE ($1 OR ($2 AND audience IN ('everyone', 'stars')) OR audience = 'rank:' || $3::text
        OR (audience = 'everyone' AND coalesce(embargo_until <= now(), true)))
    AND ($4::timestamptz IS NULL OR (published_at, announcement_id) < ($4, $5::text))
ORDER BY published_at DESC, announcement_id DESC LIMIT $6;

-- name: publish
INSERT INTO announcement (announcement_id, title, text, audience, embargo_until, published_by)
VALUES ($1, $2, $3, $4, $5, $6);

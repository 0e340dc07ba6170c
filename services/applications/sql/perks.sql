-- name: catalogue
SELECT p.*, g.grant_id, g.granted_at, g.fulfilled_at, g.address IS NOT NULL AS has_address,
    (SELECT count(*) FROM perk_grant AS all_of WHERE all_of.perk_id = p.perk_id) AS granted,
    (SELECT count(*) FROM perk_grant AS w WHERE w.perk_id = p.perk_id AND w.fulfilled_at IS NULL) AS waiting
FROM perk AS p LEFT JOIN LATERAL (
    SELECT * FROM perk_grant WHERE perk_id = p.perk_id AND member_id = ANY($1::text[]) LIMIT 1
) AS g ON true
WHERE p.offered OR $2 OR g.grant_id IS NOT NULL
ORDER BY p.made_at, p.perk_id LIMIT 500;

-- name: star
SELECT member_id, rank FROM membership WHERE member_id = ANY($1::text[]) AND state <> 'retired'
ORDER BY since DESC LIMIT 1;

-- name: make
INSERT INTO perk (perk_id, name, about, kind, ranks, left_in_stock, claimable)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7);

-- name: change
UPDATE perk SET left_in_stock = $2, offered = $3 WHERE perk_id = $1 RETURNING true;

-- name: lock
SELECT * FROM perk WHERE perk_id = $1 FOR UPDATE;

-- name: has
SELECT EXISTS (SELECT FROM perk_grant WHERE perk_id = $1 AND member_id = ANY($2::text[]));

-- name: take_from_stock
UPDATE perk SET left_in_stock = left_in_stock - 1 WHERE perk_id = $1 AND left_in_stock IS NOT NULL;

-- name: grant
INSERT INTO perk_grant (grant_id, perk_id, member_id, granted_by) VALUES ($1, $2, $3, $4)
RETURNING grant_id, perk_id, member_id, granted_at, fulfilled_at;

-- name: lock_grant
SELECT g.*, p.name, p.kind FROM perk_grant AS g JOIN perk AS p USING (perk_id) WHERE grant_id = $1 FOR UPDATE OF g;

-- name: set_address
UPDATE perk_grant SET address = $2 WHERE grant_id = $1;

-- name: fulfil
UPDATE perk_grant SET fulfilled_at = now(), address = NULL WHERE grant_id = $1 RETURNING fulfilled_at;

-- name: grants
SELECT g.*, p.name, p.kind FROM perk_grant AS g JOIN perk AS p USING (perk_id) WHERE perk_id = $1
ORDER BY g.fulfilled_at IS NOT NULL, g.granted_at, g.grant_id LIMIT 1000;

-- name: to_send
SELECT g.*, p.name FROM perk_grant AS g JOIN perk AS p USING (perk_id)
WHERE perk_id = $1 AND g.fulfilled_at IS NULL AND (p.kind <> 'swag' OR g.address IS NOT NULL)
ORDER BY g.granted_at, g.grant_id;

-- A merge can be taken back, so no membership is changed by one: who counts is read off the aliases.
CREATE VIEW star AS
SELECT m.member_id, who.person
FROM membership AS m
CROSS JOIN LATERAL (
    SELECT coalesce((SELECT a.root FROM alias AS a WHERE a.what = 'member' AND a.id = m.member_id), m.member_id) AS person
) AS who
WHERE m.state <> 'retired' AND NOT EXISTS (
    SELECT FROM membership AS o
    WHERE o.state <> 'retired' AND (o.since, m.member_id) > (m.since, o.member_id) AND o.member_id = ANY(array(
        SELECT who.person UNION ALL SELECT a.id FROM alias AS a WHERE a.what = 'member' AND a.root = who.person
    ))
);
COMMENT ON VIEW star IS
    'derived: who is a Star, each person once; of several memberships whose accounts were merged the latest counts';

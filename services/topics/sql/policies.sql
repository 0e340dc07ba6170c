-- name: read
SELECT scope, target_seconds, objective, nullif(from_at, '-infinity') AS from_at,
    from_at = (SELECT max(o.from_at) FROM policy AS o WHERE o.scope = policy.scope AND o.from_at <= now()) AS in_force
FROM policy ORDER BY scope, from_at;

-- name: write
INSERT INTO policy (scope, from_at, target_seconds, objective, set_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (scope, from_at) DO UPDATE SET target_seconds = excluded.target_seconds, objective = excluded.objective,
    set_by = excluded.set_by, set_at = now();

-- name: created_since
SELECT topic_id FROM topic_state WHERE known AND created_at >= $1;

"""PostgreSQL: pools, query files, migrations; a schema and a role for each service."""

from shared.postgres.migrations import Migrations, MigrationsError, migrate
from shared.postgres.pool import GAVE_WAY, UNAVAILABLE, Pool, connect, create_pool
from shared.postgres.queries import Queries, arrays, arrays_of, as_json, values_of

__all__ = [
    "GAVE_WAY",
    "UNAVAILABLE",
    "Migrations",
    "MigrationsError",
    "Pool",
    "Queries",
    "arrays",
    "arrays_of",
    "as_json",
    "connect",
    "create_pool",
    "migrate",
    "values_of",
]

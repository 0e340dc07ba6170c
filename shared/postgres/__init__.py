"""PostgreSQL: pools, query files, migrations; a schema and a role for each service."""

from shared.postgres.migrations import Migrations, MigrationsError, migrate
from shared.postgres.pool import UNAVAILABLE, Pool, connect, create_pool
from shared.postgres.queries import Queries

__all__ = ["UNAVAILABLE", "Migrations", "MigrationsError", "Pool", "Queries", "connect", "create_pool", "migrate"]

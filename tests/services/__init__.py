"""Real servers for the tests: PostgreSQL and Redis, started here or taken from the environment.

Owns finding the binaries, starting, stopping and cleaning up. Knows nothing of Switchboard's schema: fixtures
build on top of it. Nothing listens outside 127.0.0.1.
"""

from tests.services.postgres import PostgresServer
from tests.services.process import ServiceUnavailableError
from tests.services.redis import RedisServer

__all__ = ["PostgresServer", "RedisServer", "ServiceUnavailableError"]

"""Databases and servers for the tests of a deployment."""

from tests.databases import databases, postgres, redis_url
from tests.deploy.servers import prefect

__all__ = ["databases", "postgres", "prefect", "redis_url"]

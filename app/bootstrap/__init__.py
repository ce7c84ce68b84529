"""The only room that knows every concrete class: it wires them, and closes what it opened, in the reverse order."""

from app.bootstrap.console import serve_console
from app.bootstrap.gateway import serve_gateway
from app.bootstrap.office import Office, measure_target, office
from app.bootstrap.policy import read_policy
from app.bootstrap.postgres import database_url, migrate

__all__ = [
    "Office",
    "database_url",
    "measure_target",
    "migrate",
    "office",
    "read_policy",
    "serve_console",
    "serve_gateway",
]

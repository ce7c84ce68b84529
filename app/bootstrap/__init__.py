"""The only room that knows every concrete class: it wires them, and closes what it opened, in the reverse order.

What is named here is imported when it is asked for: a command that checks the policy needs no driver and no framework.
(`office` the function stands in `app.bootstrap.office`: here its name would be that of the module.)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from app.bootstrap.alerts import send_test_alert
    from app.bootstrap.console import serve_console
    from app.bootstrap.doctor import examine_targets, learned_curves
    from app.bootstrap.gateway import serve_gateway
    from app.bootstrap.migration import migrate
    from app.bootstrap.office import Office, measure_target
    from app.bootstrap.policy import read_policy
    from app.bootstrap.postgres import database_url

__all__ = [
    "Office",
    "database_url",
    "examine_targets",
    "learned_curves",
    "measure_target",
    "migrate",
    "read_policy",
    "send_test_alert",
    "serve_console",
    "serve_gateway",
]

_WHERE: Final = {
    "Office": "app.bootstrap.office",
    "database_url": "app.bootstrap.postgres",
    "examine_targets": "app.bootstrap.doctor",
    "learned_curves": "app.bootstrap.doctor",
    "measure_target": "app.bootstrap.office",
    "migrate": "app.bootstrap.migration",
    "read_policy": "app.bootstrap.policy",
    "send_test_alert": "app.bootstrap.alerts",
    "serve_console": "app.bootstrap.console",
    "serve_gateway": "app.bootstrap.gateway",
}


def __getattr__(name: str) -> Any:
    """What `name` stands for, from its own module."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)

"""The console: the control plane on its own port, with its own key."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware import Middleware

from app.console.access import OperatorOnly, OperatorPage
from app.console.books import books_router
from app.console.budgets import budgets_router
from app.console.guard import Guard
from app.console.health import health_router
from app.console.keys import keys_router
from app.console.openapi import openapi_router
from app.console.page import CONTENT_POLICY, page_router
from app.console.policy import policy_router
from app.console.policy_history import policy_history_router
from app.console.policy_trial import policy_trial_router
from app.console.problems import teach
from app.console.rooms import ConsoleRooms
from app.console.teams import teams_router


def console_app(rooms: ConsoleRooms) -> FastAPI:
    """The application. Each route but `/livez`, `/readyz` and `/metrics` names the role that may use it."""
    app = FastAPI(
        title="Breakeven console",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Guard, hosts=rooms.hosts, content_policy=CONTENT_POLICY)],
    )
    operator = OperatorOnly(rooms.operator)
    app.include_router(health_router(rooms.health, rooms.metrics))
    app.include_router(books_router(rooms, operator))
    app.include_router(budgets_router(rooms, operator))
    app.include_router(keys_router(rooms, operator))
    app.include_router(teams_router(rooms, operator))
    app.include_router(policy_router(rooms, operator))
    app.include_router(policy_history_router(rooms, operator))
    app.include_router(policy_trial_router(rooms, operator))
    app.include_router(openapi_router(app, operator))
    app.include_router(page_router(rooms, OperatorPage(rooms.operator)))
    teach(app)
    return app

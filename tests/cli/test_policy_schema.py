"""`breakeven policy schema` (`app.cli.policy_schema`), and how little a check of the policy loads."""

from __future__ import annotations

import subprocess
import sys

from tests.command_line import ROOT, breakeven

HEAVY = ("sqlalchemy", "asyncpg", "alembic", "fastapi", "starlette", "uvicorn", "msgspec", "httptools", "openvino")


def test_the_schema_is_printed_as_it_is_shipped() -> None:
    ran = breakeven("policy", "schema")
    assert ran.status == 0
    assert ran.out == (ROOT / "policies" / "policy.schema.json").read_text()


def test_a_check_of_the_policy_loads_no_driver_and_no_server() -> None:
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))\n"
        "sys.argv = ['breakeven', 'policy', 'check']\n"
        "from app.cli.main import main\n"
        "main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "[]"
    assert "valid, digest" in ran.stdout

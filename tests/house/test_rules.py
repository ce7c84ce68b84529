"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "app").rglob("*.py") if "_shipped" not in path.parts)
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]

#: Third-party package → the only places that may import it.
DOORS = {
    "alembic": ("app/storage/", "migrations/"),
    "asyncpg": ("app/storage/",),
    "cel": ("app/documents/conditions.py",),
    "fastapi": ("app/api/", "app/console/"),
    "genai_prices": ("app/storage/price_catalogue.py",),
    "google_crc32c": ("app/storage/",),
    "httptools": ("app/providers/", "app/bootstrap/protocol.py"),
    "jinja2": ("app/worker/",),
    "litellm": ("app/providers/hosted.py",),
    "msgspec": ("app/api/", "app/providers/", "app/storage/", "app/telemetry/", "app/worker/"),
    "numpy": ("app/worker/",),
    "openvino": ("app/worker/",),
    "openvino_genai": ("app/worker/",),
    "prometheus_client": ("app/telemetry/", "app/worker/"),
    "pydantic": ("app/documents/", "app/console/", "app/settings.py"),
    "pydantic_settings": ("app/settings.py",),
    "rich": ("app/cli/", "app/worker/"),
    "sqlalchemy": ("app/storage/", "migrations/"),
    "starlette": ("app/api/", "app/console/", "app/worker/"),
    "torch": ("app/worker/",),
    "typer": ("app/cli/",),
    "uvicorn": ("app/bootstrap", "app/worker/"),
    "uvloop": ("app/bootstrap", "app/worker/"),
    "vllm": ("app/worker/",),
    "yaml": ("app/documents/source.py",),
}
#: Programs are started in these places and nowhere else.
MAY_START_PROGRAMS = ("app/storage/embedded", "app/storage/shelf_author.py", "app/worker/", "app/cli/")
LINES_MOST = 400
FUNCTION_LINES_MOST = 60


def _imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_keeps_the_rules(path: Path) -> None:
    name, text = str(path.relative_to(ROOT)), path.read_text()
    tree = ast.parse(text)
    faults = [*_strangers(name, tree), *_late_imports(name, tree, text.splitlines()), *_sizes(name, tree, text)]
    assert not faults, "\n".join(faults)


def _strangers(name: str, tree: ast.AST) -> Iterator[str]:
    for node, module in _imports(tree):
        package = module.partition(".")[0]
        if package in {"app", "__future__"}:
            continue
        if package == "subprocess" and not name.startswith(MAY_START_PROGRAMS):
            yield f"{name}:{node.lineno}: starts programs, which only {MAY_START_PROGRAMS} may"
        if package in sys.stdlib_module_names:
            continue
        if not name.startswith(DOORS.get(package, ())):
            yield f"{name}:{node.lineno}: imports {package}, whose door is {DOORS.get(package, 'nowhere: add one')}"


def _late_imports(name: str, tree: ast.AST, lines: list[str]) -> Iterator[str]:
    """An import inside a function needs a reason beside it: heavy engines, and commands that load their room late."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node, module in _imports(function):
            said = "#" in lines[node.lineno - 1] or lines[node.lineno - 2].strip().startswith("#")
            if not (said and name.startswith(("app/worker/", "app/cli/", "app/__main__.py"))):
                yield f"{name}:{node.lineno}: imports {module} inside a function without a reason beside it"


def _sizes(name: str, tree: ast.AST, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > LINES_MOST:
        yield f"{name}: {lines} lines; is there more than one idea inside?"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MOST:
                yield f"{name}:{node.lineno}: {node.name} is {length} lines long; a function fits a screen"


def test_importing_the_gateway_loads_no_engine_no_command_line_and_no_migrations() -> None:
    heavy = ("torch", "vllm", "openvino", "openvino_genai", "numpy", "litellm", "genai_prices", "typer", "rich")
    heavy = (*heavy, "alembic", "sqlalchemy")
    rooms = "app.bootstrap.console, app.bootstrap.gateway, app.bootstrap.office"
    script = f"import sys, {rooms}; print([name for name in {heavy!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


#: Modules that hold only protocols, tables or constants, or whose suite stands under another name.
def test_every_module_is_met_by_a_test_of_its_own_room() -> None:
    orphans = []
    for path in MODULES:
        relative = path.relative_to(ROOT / "app")
        if path.name in {"__init__.py", "__main__.py"} or not _has_code(path):
            continue
        # Composition is met by journeys, through the room's own front door.
        parts = ("bootstrap",) if relative.parts[0] == "bootstrap" else relative.with_suffix("").parts
        words = ".".join(("app", *parts))
        rooms = ("tests", f"tests/{relative.parent}", "tests/ports", "tests/journeys")
        where = [test for room in rooms for test in (ROOT / room).glob("*.py")]
        if not any(_mentions(test, words) for test in where):
            orphans.append(str(relative))
    assert not orphans, f"no test of its room imports: {orphans}"


def _has_code(path: Path) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text()))
    )


def _mentions(test: Path, module: str) -> bool:
    return re.search(rf"\b{re.escape(module)}\b", test.read_text()) is not None


def test_every_room_has_its_page_with_decisions() -> None:
    rooms = [
        "domain",
        "documents",
        "live",
        "flows",
        "api",
        "console",
        "providers",
        "storage",
        "telemetry",
        "worker",
        "cli",
    ]
    for room in rooms:
        page = ROOT / "app" / room / "README.md"
        assert page.exists(), f"app/{room}/README.md is missing"
        assert "## Decisions" in page.read_text(), f"app/{room}/README.md has no Decisions"


def test_the_top_level_is_exactly_what_the_design_names() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {name.partition("/")[0] for name in listed}
    assert {name for name in top if not name.startswith(".")} <= {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "app",
        "migrations",
        "tests",
        "policies",
        "deploy",
    }


def test_no_committed_file_names_a_machine_of_ours() -> None:
    paths = re.compile(rb"(?<![\w.$}])/(work|farm|root)/[\w.]")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = [name for name in listed if (ROOT / name).is_file() and paths.search((ROOT / name).read_bytes())]
    assert not found

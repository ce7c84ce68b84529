from __future__ import annotations

import pytest

from app.providers.version import UNKNOWN, engine_version
from tests.upstream import ScriptedUpstream, refusal, unreachable_url, whole


async def test_an_engine_that_says_its_version_is_named_with_it(upstream: ScriptedUpstream) -> None:
    upstream.will(whole(b'{"version":"0.33.0"}'))
    assert await engine_version(upstream.url, kind="vllm") == "vllm 0.33.0"
    assert (upstream.heard[0].method, upstream.heard[0].path) == ("GET", "/version")


@pytest.mark.parametrize("answer", [refusal(404), whole(b"<html>"), whole(b'{"version":5}'), whole(b"{}")])
async def test_an_engine_that_does_not_is_unknown_and_no_error(upstream: ScriptedUpstream, answer: object) -> None:
    upstream.will(answer)  # type: ignore[arg-type]
    assert await engine_version(upstream.url, kind="tgi") == f"tgi {UNKNOWN}"


async def test_nobody_at_all_is_unknown_too() -> None:
    assert await engine_version(unreachable_url(), kind="vllm") == f"vllm {UNKNOWN}"

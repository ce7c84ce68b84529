"""`app.providers.engine_site`: where an engine's pages are, and what is read of them."""

from __future__ import annotations

import pytest

from app.providers.engine_site import PAGE_MOST_BYTES, EngineSite, PageFault, in_words, page_url
from app.providers.http import http_client
from tests.makers import a_target
from tests.upstream import ScriptedUpstream, refusal, unreachable_url, whole


@pytest.mark.parametrize(
    ("base", "path", "url", "is_elsewhere"),
    [
        ("http://h:8000/v1", "/metrics", "http://h:8000/metrics", False),
        ("http://h:8000/v1/", "/v1/models", "http://h:8000/v1/models", False),
        ("https://h/team/v1", "/health", "https://h/team/health", False),
        ("http://h/openai", "/v1/models", "http://h/openai/models", False),
        ("http://h:8000/v1", ":8002/metrics", "http://h:8002/metrics", True),
        ("http://[::1]:8000/v1", ":8002", "http://[::1]:8002/", True),
        ("http://h/v1", "/slots?model={model}&x=1", "http://h/slots?model=org%2Fm%26x&x=1", False),
    ],
)
def test_a_page_lies_beside_the_api_or_at_another_port(base: str, path: str, url: str, *, is_elsewhere: bool) -> None:
    assert page_url(a_target(url=base, model="org/m&x"), path) == (url, is_elsewhere)


async def test_a_page_that_cannot_be_read_says_why_and_names_no_address(upstream: ScriptedUpstream) -> None:
    client = http_client()
    site = EngineSite(client, a_target(url=upstream.url), secret=None, connect_s=2)
    for answer, said in (
        (refusal(404), "/load answers 404"),
        (whole(b"x" * (PAGE_MOST_BYTES + 1)), "/load has more than"),
        (whole(b"<html>"), "/load is not JSON"),
    ):
        upstream.will(answer)
        with pytest.raises(PageFault, match=said):
            await site.json("/load")
    away = EngineSite(client, a_target(url=unreachable_url()), secret=None, connect_s=2)
    with pytest.raises(PageFault, match="/load: no connection") as caught:
        await away.page("/load")
    assert "127.0.0.1" not in str(caught.value)
    await client.close()


def test_a_fault_in_words_names_the_model_and_hides_what_is_secret() -> None:
    target = a_target(model="small")
    fault = PageFault("/slots?model={model} answers 401 to hunter2hunter2", status=401)
    assert in_words(fault, target, secret="hunter2hunter2") == "/slots?model=small answers 401 to [hidden]"

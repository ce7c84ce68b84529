"""To which URLs the gateway may speak."""

from __future__ import annotations

import pytest

from app.documents.addresses import fault_of_address


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8001/v1",
        "http://localhost:8001/v1",
        "http://[::1]:8001/v1",
        "http://10.1.2.3/v1",
        "http://192.168.0.7:8000",
        "http://[fd00::7]:8000/v1",
        "http://vllm:8000/v1",
        "http://vllm.models.svc.cluster.local/v1",
        "http://gpu.internal:8000/v1/",
        "https://api.openai.com/v1",
        "HTTPS://Example.com/v1",
        "https://8.8.8.8/v1",
        "https://example.com./v1",
    ],
)
def test_one_may_speak_to_ones_own_network_and_over_tls_to_all(url: str) -> None:
    assert fault_of_address(url) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://api.example.com/v1", "clear text"),
        ("http://8.8.8.8/v1", "clear text"),
        ("http://localhost.example.com/v1", "clear text"),
        ("http://[2001:4860::8888]/v1", "clear text"),
        ("http://169.254.169.254/latest", "no target can be"),
        ("https://0.0.0.0/v1", "no target can be"),
        ("http://[fe80::1]/v1", "no target can be"),
        ("http://2130706433/v1", "no complete address"),
        ("file:///etc/passwd", "not a URL"),
        ("gopher://example.com/", "http:// or https://"),
        ("api.openai.com/v1", "not a URL"),
        ("https://", "not a URL"),
        ("https://exa mple.com/", "not a URL"),
        ("https://example.com\n/v1", "not a URL"),
        ("https://example.com:99999/", "not a URL"),
        ("https://example.com:port/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://exämple.com/", "not a URL"),
        ("https://key@example.com/", "no user"),
        ("https://:pass@example.com/", "no user"),
        ("https://example.com/v1?key=1", "ends with its path"),
        ("https://example.com/v1#a", "ends with its path"),
        ("https://example.com/v1?", "ends with its path"),
        ("", "not a URL"),
    ],
)
def test_every_other_url_is_refused_with_the_reason(url: str, words: str) -> None:
    fault = fault_of_address(url)
    assert fault is not None
    assert words in fault.message
    assert fault.mend

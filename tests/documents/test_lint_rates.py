"""Every target has a price, or the policy does not go live."""

from __future__ import annotations

from app.documents.gather import gather
from app.documents.lint_rates import lint_rates
from app.documents.source import read
from tests.documents.good import GOOD


def messages(text: str) -> list[str]:
    page, findings = read(file="a.yaml", text=text)
    assert page is not None
    assert findings == ()
    return [finding.message for finding in lint_rates(gather([page])[0])]


def test_without_any_rates_every_target_is_told() -> None:
    assert messages(GOOD[: GOOD.index("rates:")]) == [
        'the price of the machine "h100" is not known',
        'the price of the managed target "hosted" is not known',
    ]


def test_a_price_of_zero_is_a_price() -> None:
    assert (
        messages(
            GOOD.replace(
                "prompt: 0.25, cached_prompt: 0.025, completion: 2.00", "prompt: 0, cached_prompt: 0, completion: 0"
            )
        )
        == []
    )


def test_the_speed_of_many_machines_together_is_what_counts() -> None:
    text = GOOD.replace("usd_per_hour: 2.50", "usd_per_hour: 100000").replace("count: 2", "count: 10000")
    assert [message.partition(" make")[0] for message in messages(text)] == [
        "9000 tokens per second",
        "3000 tokens per second",
    ]

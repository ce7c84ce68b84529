"""What differs between two policies, in words (`app.flows.policy_diff`)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.documents.compile import compile_policy
from app.flows.policy_diff import Kind, change_view, policy_changes
from tests.archive import FILES, MODELS, TARGETS
from tests.mixed_traffic import FILES as MIXED
from tests.mixed_traffic import LATER_FILES as MIXED_LATER

PRICE = "prompt 0.25, cached prompt 0.025, completion {} USD per million tokens"
RULES = """
models:
  chat:
    rules:
"""


def said(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [str(change) for change in policy_changes(compile_policy(old).policy, compile_policy(new).policy)]


def changed(*replacements: tuple[str, str], targets: str = TARGETS, models: str = MODELS) -> list[str]:
    """What is said when these texts of the usual files are replaced."""
    new = {"targets.yaml": targets, "models.yaml": models}
    for old_text, new_text in replacements:
        assert any(old_text in text for text in new.values()), old_text
        new = {name: text.replace(old_text, new_text) for name, text in new.items()}
    return said(FILES, new)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[home, api]", "[api, home]", 'model chat: rule "everybody": use [home, api] → [api, home]'),
        (
            'caller.team == "legal"',
            'caller.team == "law"',
            'model chat: rule "legal stays home": when caller.team == "legal" → caller.team == "law"',
        ),
        (
            "use: [home, api]\n",
            "use: [home, api]\n        prefer: {weighted: {home: 9, api: 1}}\n",
            'model chat: rule "everybody": prefer listed → {api: 1, home: 9}',
        ),
        (
            "use: [home, api]\n",
            "use: [home, api]\n        prefer: {usd_per_second: 0.002}\n",
            'model chat: rule "everybody": prefer listed → usd_per_second 0.002',
        ),
        (
            "use: [home, api]\n",
            "use: [home, api]\n        spill: {predicted_ttft_ms: 1500, max_usd_per_hour: 5}\n",
            'model chat: rule "everybody": spill.max_usd_per_hour none → $5.00',
        ),
        (
            "use: [home, api]\n",
            "use: [home]\n        shadow: {target: api, share: 0.25}\n",
            'model chat: rule "everybody": shadow.share none → 25 %',
        ),
        (
            "use: [home, api]\n",
            "use: [home, api]\n        affinity: session\n",
            'model chat: rule "everybody": affinity: session none → yes',
        ),
        (
            "completion: 2.00",
            "completion: 3",
            f"target api: price {PRICE.format(2)} → {PRICE.format(3)}",
        ),
        ("can: [chat, tools]", "can: [chat]", "target api: can [chat, tools] → [chat]"),
        ("usd_per_hour: 0.80", "usd_per_hour: 0.90", "machine l4: usd_per_hour $0.8 → $0.9"),
        (
            "credential: env:OPENAI_API_KEY",
            "credential: env:OTHER_KEY",
            "target api: credential env:OPENAI_API_KEY → env:OTHER_KEY",
        ),
        ("machine: {type: l4, count: 1}", "machine: {type: l4, count: 2}", "target home: machine 1 × l4 → 2 × l4"),
        ("models:\n", "timezone: Europe/Berlin\nmodels:\n", "policy: timezone UTC → Europe/Berlin"),
        ("    rules:", "    attempts: 2\n    rules:", "model chat: attempts 3 → 2"),
        ("    rules:", "    timeouts: {total_s: 5}\n    rules:", "model chat: timeouts.total_s 600.0 → 5.0"),
        (
            "models:\n",
            "budgets: {all: {usd: 5, every: day}}\nmodels:\n",
            "budget all is new: usd $5.00, every day, mode hard",
        ),
    ],
)
def test_a_change_is_said_in_the_words_of_the_language(old: str, new: str, sentence: str) -> None:
    assert sentence in changed((old, new))


def test_what_is_written_otherwise_but_decides_alike_is_no_change() -> None:
    assert changed(("prompt: 0.25,", "prompt: 0.250,"), ("[chat, tools]", "[tools, chat]")) == []
    one_file = {"everything.yaml": TARGETS + MODELS}
    assert said(FILES, one_file) == []


def test_rules_are_known_by_name_when_they_come_go_and_move() -> None:
    def files(*names: str) -> Mapping[str, str]:
        rules = [f"      - {{name: {name}, when: request.n == {ord(name)}, use: [home, api]}}\n" for name in names]
        last = "      - {name: rest, use: [home, api]}\n"
        return {"targets.yaml": TARGETS, "models.yaml": RULES + "".join([*rules, last])}

    assert said(files("a", "b", "c"), files("c", "a", "b")) == ['model chat: rule "c" moved from place 3 to place 1']
    assert said(files("a", "b"), files("a")) == [
        'model chat: rule "b" is gone: when request.n == 98, prefer listed, use [home, api]'
    ]
    assert said(files("a"), files("d", "a")) == [
        'model chat: rule "d" is new: when request.n == 100, prefer listed, use [home, api]'
    ]


def test_a_model_that_comes_or_goes_is_said_with_its_rules() -> None:
    chatter = {**FILES, "more.yaml": "models: {chatter: {rules: [{name: all, use: [home]}]}}\n"}
    came = said(FILES, chatter)
    assert came[0].startswith("model chatter is new: attempts 3, ")
    assert came[1] == 'model chatter: rule "all" is new: when always, prefer listed, use [home]'
    assert said(chatter, FILES)[1] == 'model chatter: rule "all" is gone: when always, prefer listed, use [home]'


def test_a_diff_of_the_whole_language_names_each_change_once() -> None:
    changes = policy_changes(compile_policy(MIXED).policy, compile_policy(MIXED_LATER).policy)
    assert [(change.what, change.name, change.key) for change in changes] == [
        ("target", "hosted-mini", "price"),
        ("rule", "quick ones", "when"),
        ("rule", "everybody else", "spill.predicted_ttft_ms"),
        ("rule", "everybody else", "spill.max_usd_per_hour"),
        ("rule", "canary", "prefer"),
    ]
    view = change_view(changes[1])
    assert (view["kind"], view["model"], view["old"]) == (
        "changed",
        "chat",
        "request.stream && request.prompt_tokens < 500",
    )
    assert view["says"] == str(changes[1])
    assert policy_changes(compile_policy(MIXED).policy, compile_policy(MIXED).policy) == ()


@given(st.permutations(["a", "b", "c", "d"]), st.permutations(["a", "b", "c", "d"]))
def test_no_more_rules_move_than_must(old: list[str], new: list[str]) -> None:
    def policy(names: list[str]):  # type: ignore[no-untyped-def]
        return _policy_of(tuple(names))

    moved = [change.name for change in policy_changes(policy(old), policy(new)) if change.kind is Kind.MOVED]
    assert [name for name in old if name not in moved] == [name for name in new if name not in moved]
    assert (len(moved) == 0) is (old == new)
    assert len(moved) < len(old)


def _policy_of(names: tuple[str, ...]):  # type: ignore[no-untyped-def]
    if names not in _MADE:
        rules = [f"      - {{name: {name}, when: request.n == {ord(name)}, use: [home, api]}}\n" for name in names]
        text = RULES + "".join([*rules, "      - {name: rest, use: [home, api]}\n"])
        _MADE[names] = compile_policy({"targets.yaml": TARGETS, "models.yaml": text}).policy
    return _MADE[names]


_MADE: dict[tuple[str, ...], object] = {}


def test_prices_that_change_are_said_with_their_days_and_a_list_with_its_digest() -> None:
    prices = "usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}"
    tiers = f"{prices}\n      service_tiers: {{flex: {{{prices}}}}}"
    dated = f"{prices}\n      valid_to: 2027-01-01\n      changes: [{{valid_from: 2026-12-01, {prices}}}]"
    (tiered,) = changed((prices, tiers))
    assert tiered.startswith(f"target api: price {PRICE.format(2)} → {PRICE.format(2)}, and what else the rate card ")
    by_day = f"[to 2026-12-01 {PRICE.format(2)}, from 2026-12-01 to 2027-01-01 {PRICE.format(2)}]"
    assert changed((prices, dated)) == [f"target api: prices by day none → {by_day}"]


def test_parts_of_money_are_said_in_percent_and_by_the_names_of_the_language() -> None:
    budgets = "budgets:\n  all: {usd: 1, every: day%s}\n"
    old, new = ({**FILES, "budgets.yaml": budgets % more} for more in ("", ", warn_at: [0.5, 0.8, 1.0]"))
    (change,) = [each for each in said(old, new) if "warn" in each]
    assert change.endswith("[50 %, 80 %, 100 %]")
    assert "budget all: warn_at " in change


def test_what_a_busy_machine_costs_more_is_said_as_a_part_of_its_hour_and_nothing_where_it_is_nothing() -> None:
    new = {each.split()[1]: each for each in said(FILES, MIXED) if each.startswith("target ") and " is new" in each}
    assert "marginal_usd_per_hour 13.75 % of usd_per_hour" in new["gpu-a"]
    old = {each.split()[1]: each for each in said(MIXED, FILES) if each.startswith("target ") and " is new" in each}
    assert "marginal" not in old["home"]

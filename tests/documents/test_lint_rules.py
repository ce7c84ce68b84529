"""What a rule asks of its targets, one fault at a time, in the policy of the whole language.

Each case breaks it in one place and expects exactly one finding there.
"""

# ruff: noqa: E501 - a table reads by its columns

from __future__ import annotations

import pytest

from app.documents.gather import gather
from app.documents.lint_budgets import lint_budgets
from app.documents.lint_rates import lint_rates
from app.documents.lint_reads import lint_reads
from app.documents.lint_rules import lint_rule_links, lint_rules
from app.documents.source import read
from app.domain.findings import Severity
from tests.documents.good import findings_of, told
from tests.documents.test_whole_language import WHOLE, whole

SPILL = "spill: {predicted_ttft_ms: 1500, max_usd_per_hour: 5}"

#: what is wrong → (piece, replacement, line:column, severity, code, words of the message, words of the mend)
FAULTS: dict[str, tuple[str, str, str, str, str, str, str]] = {
    "a shadow at an unknown target": ("shadow: {target: gpu-new", "shadow: {target: gpu-mew", "49:26", "error", "unknown-target", '"gpu-mew", which no file has', '"gpu-new"'),
    "a shadow at a target of the rule": ("use: [gpu-a, hosted]\n        prefer: {usd", "use: [gpu-a, hosted, gpu-new]\n        prefer: {usd", "49:26", "error", "shadow", "answers this rule itself", "not in `use`"),
    "a shadow that costs without bound": (f"use: [gpu-a, hosted]\n        prefer: {{usd_per_second: 0.002}}\n        {SPILL}\n        shadow: {{target: gpu-new, share: 0.05, max_usd_per_day: 2}}", "use: [gpu-a, gpu-new]\n        shadow: {target: hosted, share: 0.05}", "47:9", "warning", "shadow", "nothing bounds", "max_usd_per_day"),
    "a shadow of nothing": ("share: 0.05", "share: 0", "49:42", "error", "shape", "0 is out of range", ""),
    "a shadow of more than all": ("share: 0.05", "share: 5", "49:42", "error", "shape", "to 1", ""),
    "a shadow too fine": ("share: 0.05", "share: 0.0000005", "49:42", "error", "shape", "out of range", ""),
    "a shadow without a share": ("share: 0.05, ", "", "49:9", "error", "missing", '"share" is missing', "add it"),
    "a spill that says nothing": (SPILL, "spill: {}", "48:9", "error", "spill", "neither when nor for how much", "predicted_ttft_ms"),
    "a spill with nowhere to go": (f"use: [gpu-a, hosted]\n        prefer: {{usd_per_second: 0.002}}\n        {SPILL}\n        shadow: {{target: gpu-new", f"use: [gpu-a, gpu-new]\n        prefer: {{usd_per_second: 0.002}}\n        {SPILL}\n        shadow: {{target: hosted", "48:9", "error", "spill", "has no managed target", "add a managed target"),
    "a spill for nothing": (SPILL, "spill: {max_usd_per_hour: 0}", "48:35", "error", "shape", "0 is out of range", ""),
    "a spill that waits": (SPILL, f"{SPILL}\n        wait: true", "48:9", "error", "spill", "does not spill", "remove `wait` or `spill`"),
    "a spill that waits by default": ("  affinity: session\n", "  affinity: session\n  wait: true\n", "49:9", "error", "spill", "does not spill", "add `wait: false` here"),
    "a wait for nobody": ("    limits: {in_flight: 64, waiting: 16}\n", "", "38:9", "warning", "wait", "nothing to wait for", "in_flight"),
    "a queue that is never waited to its end": ("timeouts: {first_token_s: 10, total_s: 60}", "timeouts: {queue_s: 61, total_s: 60}", "50:25", "error", "bounds", "never reached", ""),
    "a wait that is a word": ("wait: true", "wait: 1", "39:15", "error", "shape", "true or false, not a whole number", ""),
    "a session with nowhere to stay": ("        affinity: none\n", "        affinity: session\n", "40:9", "warning", "affinity", "one target only", "remove it"),
    "an affinity that is none": ("        affinity: none\n", "        affinity: user\n", "40:19", "error", "word", '"user"', "none, session"),
    "the fastest of one": ("        wait: true\n", "        wait: true\n        prefer: fastest\n", "40:9", "warning", "prefer", "`fastest` does nothing", "another target"),
    "the balance of one": ("        wait: true\n", "        wait: true\n        prefer: {usd_per_second: 1}\n", "40:9", "warning", "prefer", "`usd_per_second` does nothing", "another target"),
    "a preference that says nothing": ("prefer: {usd_per_second: 0.002}", "prefer: {}", "47:9", "error", "prefer", "either `usd_per_second` or `weighted`", "write one of them"),
    "a preference that says two things": ("prefer: {usd_per_second: 0.002}", "prefer: {usd_per_second: 0.002, weighted: {gpu-a: 1, hosted: 1}}", "47:9", "error", "prefer", "either", "keep one of them"),
    "a second for nothing": ("usd_per_second: 0.002", "usd_per_second: 0", "47:34", "error", "shape", "0 is out of range", "",),
    "a mapping for the default": ("prefer: cheapest", "prefer: {usd_per_second: 1}", "6:11", "error", "word", "defaults.prefer cannot be a mapping", "cheapest, fastest, listed"),
    "a feature that no target has": ("when: request.deadline_s > 3600", "when: request.has_images && request.n > 1", "38:9", "warning", "capability", "asks for images", "`images`"),
    "an endpoint that no target has": ("when: request.deadline_s > 3600", 'when: request.n > 1 && ("completions" == request.endpoint)', "38:9", "warning", "capability", "asks for completions", "`completions`"),
    "an answer longer than a context": ("output_tokens: {most: 500}", "output_tokens: {most: 8192}", "52:27", "error", "context", 'of "gpu-a" (8192)', "below that"),
    "a default longer than a context": ("context_tokens: 8192", "context_tokens: 600", "53:3", "error", "context", "2000 output tokens (most)", "leave the target out"),
    "defaults against themselves": ("{default: 800, most: 2000}", "{default: 2800, most: 2000}", "5:28", "error", "bounds", "over the most of 2000", ""),
    "a default time-out never reached": ("{connect_s: 1, total_s: 120}", "{connect_s: 121, total_s: 120}", "4:25", "error", "bounds", "never reached", ""),
    "a time-out over the default's whole": ("timeouts: {first_token_s: 10, total_s: 60}", "timeouts: {first_token_s: 200}", "50:31", "error", "bounds", "ends the request after 120 s", ""),
    "an answer over the default's most": ("output_tokens: {most: 500}", "output_tokens: {default: 2001}", "52:30", "error", "bounds", "over the most of 2000", ""),
    "a wrong key of the defaults": ("  attempts: 2\n", "  atempts: 2\n", "3:3", "error", "unknown-key", "in defaults", '"attempts"'),
    "a hedge of nothing": ("recovery: error", "hedge: {after_ms: 0}", "51:23", "error", "shape", "0 is out of range", ""),
    "a hedge in the past": ("recovery: error", "hedge: {after_ms: -5}", "51:23", "error", "shape", "-5 is out of range", ""),
    "a hedge of a word": ("recovery: error", "hedge: soon", "51:12", "error", "shape", "a mapping", ""),
    "a hedge by a wrong key": ("recovery: error", "hedge: {after: 700}", "51:13", "error", "unknown-key", "in models.chat.hedge", '"after_ms"'),
    "a hedge with restart": ("recovery: error", "recovery: restart\n    hedge: {after_ms: 700}", "52:23", "error", "hedge", "`recovery: restart`", "leave the hedge out"),
    "a hedge with continue": ("recovery: error", "recovery: continue\n    hedge: {after_ms: 700}", "52:23", "error", "hedge", "cannot race", "`recovery: error` or `buffer`"),
    "a hedge with one attempt": ("recovery: error", "attempts: 1\n    hedge: {after_ms: 700}", "52:23", "error", "hedge", "allows one only", "`attempts: 2` or more"),
    "a hedge after the first token": ("recovery: error", "hedge: {after_ms: 10000}", "51:23", "error", "hedge", "a hedge after 10000 ms is never made: first_token_s ends the attempt after 10 s", "hedge sooner"),
    "a default hedge with restart": ("  attempts: 2\n", "  attempts: 2\n  hedge: {after_ms: 700}\n  recovery: restart\n", "4:21", "error", "hedge", "`recovery: restart`", "leave the hedge out"),
    "a recovery that is none": ("recovery: error", "recovery: retry", "51:15", "error", "word", '"retry"', '"restart"'),
    "no data class": ("data_classes: [public, internal]", "data_classes: []", "31:19", "error", "empty", "is empty", "at least one"),
    "a data class twice": ("data_classes: [public, internal]", "data_classes: [public, public]", "31:28", "error", "repeated", "written twice", "remove one"),
    "a credential by path": ("file:openai-key", "file:/etc/openai-key", "32:17", "error", "credential", "not a path", "file:openai-key"),
    "a credential that climbs": ("file:openai-key", "file:../openai-key", "32:17", "error", "credential", "not a path", "file:openai-key") ,
    "more than the whole hour": ("marginal_usd_per_hour: 0.40", "marginal_usd_per_hour: 2.51", "59:55", "error", "range", "over the 2.50 of the whole hour", "while it works"),
    "a machine that nobody runs on": ("    h100: {usd", "    h200: {usd_per_hour: 3}\n    h100: {usd", "59:5", "warning", "unused-price", 'the machine "h200"', "remove"),
    "a condition on an unknown target": ('fleet["gpu-new"]', 'fleet["gpu-mew"]', "42:48", "error", "unknown-target", 'the target "gpu-mew", which no file has', '"gpu-new"'),
    "a condition on an unknown budget": ('budget["research"]', 'budget["reserch"]', "42:15", "error", "unknown-budget", 'the budget "reserch", which no file has', '"research"'),
    "a budget of an unknown model": ("model: chat}", "model: chatt}", "64:42", "error", "unknown-model", '"chatt", which no file has', '"chat"'),
    "a budget that nobody reads": ("budgets:\n", "budgets:\n  all: {usd: 9, every: day, mode: watch}\n", "64:3", "warning", "unused-budget", "only watched", 'budget["all"].used'),
    "a budget of an unknown mode": ("every: month", "every: month, mode: strict", "64:81", "error", "word", '"strict"', "hard, soft, watch"),
    "a step at an unknown target": ("every: month", "every: month, past: {1.0: {only: [gpu-z]}}", "64:95", "error", "unknown-target", '"gpu-z", which no file has', "gpu-a"),
    "a step that is given twice": ("every: month", "every: month, past: {0.5: {prefer: cheapest}, 0.50: {prefer: cheapest}}", "64:107", "error", "duplicate-step", "0.5 and 0.50", "one of them"),
    "a step beyond the whole": ("every: month", "every: month, past: {1.5: {prefer: cheapest}}", "64:82", "error", "name", "a part of the budget", ""),
    "a step at no part": ("every: month", "every: month, past: {much: {prefer: cheapest}}", "64:82", "error", "name", "a part of the budget", ""),
    "a step that refuses early": ("every: month", "every: month, past: {0.9: refuse}", "64:87", "error", "early-refusal", "not at 0.9", "1.0: refuse"),
    "a step that does nothing": ("every: month", "every: month, past: {0.9: {}}", "64:87", "error", "empty-step", "changes nothing", "`only` or `prefer`"),
    "a budget for no period": ("every: month", "every: year", "64:68", "error", "word", '"year"', "day, month, week"),
    "a budget of nothing": ("usd: 500.5", "usd: 0", "64:54", "error", "shape", "0 is out of range", ""),
    "a budget of somebody unheard of": ("of: {team: research,", "of: {teams: research,", "64:19", "error", "unknown-key", "in budgets.research.of", '"team"'),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_one_fault_is_told_once_where_it_is_and_in_plain_words(what: str) -> None:
    old, new, place, severity, code, message, mend = FAULTS[what]
    findings = findings_of(whole(old, new))
    assert len(findings) == 1, [str(finding) for finding in findings]
    (found,) = findings
    assert (f"{found.line}:{found.column}", found.severity, found.code) == (place, severity, code), str(found)
    assert message in found.message, found
    assert mend in found.mend, found


def test_a_data_class_that_no_target_of_its_rule_takes_is_an_error() -> None:
    rule = (
        "      - name: secrets\n        when: request.data_class == 'secret' && request.n == 1\n        use: [hosted]\n"
    )
    text = whole("      - name: batch waits\n", f"{rule}      - name: batch waits\n")
    assert told(text) == [("policy.yaml:38:9", "data-class")]
    assert told(text.replace("== 'secret'", "== 'public'")) == []
    assert told(text.replace("== 'secret'", "!= 'secret'")) == []
    assert told(text.replace("use: [hosted]\n", "use: [hosted, gpu-a]\n", 1)) == []


def test_what_a_condition_only_may_ask_for_needs_no_target() -> None:
    for when in ("request.has_images || request.n > 1", "!request.has_images", 'request.endpoint != "completions"'):
        assert (
            told(whole("when: request.deadline_s > 3600", f'when: "{when}"'.replace('"completions"', "'completions'")))
            == []
        )


def test_a_time_in_the_queue_where_no_rule_waits_is_a_warning() -> None:
    text = whole("timeouts: {first_token_s: 10, total_s: 60}", "timeouts: {queue_s: 5, total_s: 60}")
    assert told(text) == []
    assert told(text.replace("        wait: true\n", "")) == [("policy.yaml:49:16", "queue")]


def test_what_a_model_says_against_a_hedge_of_the_defaults_is_told_at_the_model_with_the_way_out() -> None:
    by_default = whole("  attempts: 2\n", "  attempts: 2\n  hedge: {after_ms: 700}\n")
    assert told(by_default) == []
    for old, new, place in (
        ("recovery: error", "recovery: restart", "policy.yaml:52:15"),
        ("    attempts: 4\n", "    attempts: 1\n", "policy.yaml:57:15"),
        ("{first_token_s: 10, total_s: 60}", "{first_token_s: 0.7, total_s: 60}", "policy.yaml:51:31"),
    ):
        (found,) = findings_of(by_default.replace(old, new))
        assert (f"{found.file}:{found.line}:{found.column}", found.code) == (place, "hedge")
        assert "write `hedge: {}` here" in found.mend


def test_a_hedge_that_no_rule_has_a_second_target_for_is_a_warning_where_the_model_asks_for_it() -> None:
    plain = "      - {name: all, use: [gpu-a, hosted]}\n    attempts: 4\n"
    hedged = plain.replace("attempts: 4\n", "hedge: {after_ms: 700}\n")
    alone = hedged.replace("[gpu-a, hosted]", "[gpu-a]")
    assert told(whole(plain, hedged)) == []
    (found,) = findings_of(whole(plain, alone))
    assert (f"{found.file}:{found.line}:{found.column}", found.code) == ("policy.yaml:56:5", "hedge")
    assert (found.severity, found.mend) == (
        Severity.WARNING,
        "add a target to the `use` of a rule, or leave the hedge out",
    )
    assert told(whole(plain, alone.replace("{after_ms: 700}", "{}"))) == []
    by_default = whole("  attempts: 2\n", "  attempts: 2\n  hedge: {after_ms: 700}\n")
    assert told(by_default.replace("all, use: [gpu-a, hosted]", "all, use: [gpu-a]")) == []


def test_what_a_rule_has_by_default_is_no_fault_of_its_own() -> None:
    """`affinity: session` and `prefer: fastest` of the defaults say nothing of a rule with one target."""
    text = whole("prefer: cheapest", "prefer: fastest").replace("        affinity: none\n", "")
    assert told(text) == []


def test_the_whole_language_passes_every_question() -> None:
    page, _ = read(file="policy.yaml", text=WHOLE)
    assert page is not None
    gathered, _ = gather([page])
    found = [*lint_rules(gathered), *lint_rule_links(gathered, {}), *lint_reads(gathered, {}), *lint_rates(gathered)]
    assert found == []
    unread = [finding.code for finding in lint_budgets(gathered, {})]
    assert unread == [], "nothing is told of a budget while a condition could not be read"


def test_budgets_that_count_the_same_are_told_at_the_second() -> None:
    line = "  research: {of: {team: research, model: chat}, usd: 500.5, every: month}\n"
    text = whole(line, line + line.replace("research: {of", "again: {of").replace("500.5", "9"))
    text = text.replace('budget["research"].used > 0.9', 'budget["research"].used > 0.9 || budget["again"].used > 0.9')
    assert told(text) == [("policy.yaml:65:3", "duplicate-budget")]


def test_defaults_are_written_once() -> None:
    assert told({"a.yaml": WHOLE, "b.yaml": "defaults: {attempts: 3}\n"}) == [("b.yaml:1:1", "duplicate-name")]
    assert told({"a.yaml": WHOLE, "b.yaml": "defaults:\n"}) == [("b.yaml:1:1", "duplicate-name")]
    assert told(whole("affinity: session", "affinity: session\n  attempts: 99").replace("  attempts: 2\n", "")) == [
        ("policy.yaml:7:13", "shape")
    ]


def test_a_warning_that_is_given_twice_is_an_error() -> None:
    found = {finding.code for finding in findings_of(whole("every: month", "every: month, warn_at: [0.5, 0.5]"))}
    assert found == {"duplicate-warning"}

"""From files to a policy: the shipped set, the digest, several files, warnings."""

# ruff: noqa: E501 - tables read by their columns

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.compile import Compiled, compile_policy, digest_of
from app.domain.errors import PolicyInvalid
from app.domain.findings import Severity
from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.snapshot import Snapshot
from app.domain.target import TargetSeen
from tests.documents.good import GOOD, changed, findings_of, told
from tests.makers import CARD, NOON, some_facts

SHIPPED = Path(__file__).parents[2] / "policies"


def shipped() -> Compiled:
    return compile_policy({path.name: path.read_text() for path in SHIPPED.glob("*.yaml")})


def test_the_shipped_policy_compiles_without_a_finding() -> None:
    compiled = shipped()
    assert compiled.findings == ()
    assert set(compiled.policy.targets) == {"cpu-worker", "openai"}
    assert set(compiled.policy.routes) == {"chat", "smollm2-135m-instruct"}
    assert compiled.policy.targets["cpu-worker"].rate_card is None, "measured when the worker starts"
    assert compiled.policy.targets["openai"].rate_card is not None


def plan_of(compiled: Compiled, **facts: object) -> Plan | Refusal:
    fleet = {
        "cpu-worker": TargetSeen(rate_card=CARD),
        "openai": TargetSeen(rate_card=CARD, credential_present=bool(facts.pop("key", True))),
    }
    return decide(some_facts(**facts), Snapshot(policy=compiled.policy, fleet=fleet, at=NOON))


def test_the_shipped_policy_sends_requests_where_its_page_says() -> None:
    compiled = shipped()
    plan = plan_of(compiled)
    assert isinstance(plan, Plan)
    assert plan.order == ("cpu-worker", "openai")
    without_key = plan_of(compiled, key=False)
    assert isinstance(without_key, Plan)
    assert without_key.order == ("cpu-worker",)
    assert without_key.candidates[1].filter == "credential"
    restricted = plan_of(compiled, data_class="restricted")
    assert isinstance(restricted, Plan)
    assert (restricted.rule, restricted.order) == ("restricted data stays home", ("cpu-worker",))
    tools = plan_of(compiled, has_tools=True)
    assert isinstance(tools, Plan)
    assert tools.order == ("openai",)
    by_name = plan_of(compiled, model="smollm2-135m-instruct", has_tools=True)
    assert isinstance(by_name, Refusal)


def test_the_digest_names_the_files_and_nothing_else() -> None:
    files = {"b.yaml": "x", "a.yaml": "é"}
    framed = b"6:a.yaml" + b"2:\xc3\xa9" + b"6:b.yaml" + b"1:x"
    assert digest_of(files) == sha256(framed).hexdigest()[:16]
    assert digest_of(dict(reversed(files.items()))) == digest_of(files)
    assert len({digest_of(files), digest_of({"a.yaml": "é", "b.yaml": "y"}), digest_of({"a.yaml": "éb.yamlx"})}) == 3
    assert compile_policy({"p.yaml": GOOD}).policy.digest == digest_of({"p.yaml": GOOD})
    assert compile_policy({"p.yaml": GOOD + "\n"}).policy.digest != digest_of({"p.yaml": GOOD})


def pieces() -> dict[str, str]:
    """The good policy in a file for each top key."""
    files: dict[str, str] = {}
    name = ""
    for line in GOOD.splitlines(keepends=True):
        if not line.startswith(" "):
            name = f"{line.partition(':')[0]}.yaml"
        files[name] = files.get(name, "") + line
    return files


def test_files_are_merged_in_whatever_order_they_come() -> None:
    files = list(pieces().items())
    assert len(files) == 4
    policies = []
    for seed in range(5):
        random.Random(seed).shuffle(files)
        compiled = compile_policy(dict(files))
        assert compiled.findings == ()
        policies.append(compiled.policy)
    whole = compile_policy({"p.yaml": GOOD}).policy
    for policy in policies:
        assert policy.digest == policies[0].digest
        assert dict(policy.targets) == dict(whole.targets)
        assert policy.timezone == whole.timezone
        assert [rule.name for rule in policy.routes["chat"].rules] == [rule.name for rule in whole.routes["chat"].rules]


def test_the_same_files_give_the_same_policy_and_the_same_findings() -> None:
    one, other = compile_policy({"p.yaml": GOOD}), compile_policy({"p.yaml": GOOD})
    assert one.policy.targets == other.policy.targets
    assert one.policy.digest == other.policy.digest
    broken = GOOD.replace("vllm", "vlm").replace("attempts: 3", "attempts: 99").replace("caller.team", "caller.tame")
    assert findings_of(broken) == findings_of(broken)
    assert len(findings_of(broken)) == 3


def test_a_name_given_in_two_files_is_told_in_the_second_with_the_first() -> None:
    second = "timezone: UTC\ntargets:\n  hosted: {hosting: managed}\nrates:\n  machines:\n    h100: {usd_per_hour: 1}\n"
    findings = findings_of({"a.yaml": GOOD, "b.yaml": second})
    assert [(str(finding.file), finding.line, finding.column, finding.code) for finding in findings] == [
        ("b.yaml", 1, 1, "duplicate-name"),
        ("b.yaml", 3, 3, "duplicate-name"),
        ("b.yaml", 6, 5, "duplicate-name"),
    ]
    assert [finding.message.rpartition(" ")[2] for finding in findings] == ["a.yaml:1", "a.yaml:12", "a.yaml:36"]


def test_a_file_that_cannot_be_read_draws_no_faults_in_the_others() -> None:
    files = pieces()
    files["targets.yaml"] = "targets: {a: 1"
    assert told(files) == [("targets.yaml:1:10", "yaml")]
    files["models.yaml"] = files["models.yaml"].replace("caller.team", "caller.tame")
    assert [code for _, code in told(files)] == ["condition", "yaml"]


def test_a_section_that_cannot_be_read_draws_no_faults_in_the_others() -> None:
    files = pieces()
    files["targets.yaml"] = "targets: [gpu-a, hosted]\n"
    assert told(files) == [("targets.yaml:1:10", "shape")]
    files["targets.yaml"] = pieces()["targets.yaml"].replace("targets:", "target:")
    assert told(files) == [("targets.yaml:1:1", "unknown-key")]


def test_a_target_of_the_wrong_shape_is_still_known_by_name() -> None:
    assert told(changed("    model: small\n", "    modell: small\n")) == [("policy.yaml:7:5", "unknown-key")]


def test_no_targets_and_no_models_are_errors_of_the_whole() -> None:
    findings = findings_of({"a.yaml": "# nothing\n"})
    assert [str(finding) for finding in findings] == [
        "policies: error: no file has any models (write them under `models:` in policies/models.yaml)",
        "policies: error: no file has any targets (write them under `targets:` in policies/targets.yaml)",
    ]
    assert [finding.code for finding in findings_of({})] == ["empty", "empty"]
    assert findings_of("targets:\nmodels:\nrates:\n") == findings


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("use: [gpu-a, hosted]\n        prefer: cheapest", "when: request.n < 5\n        use: [gpu-a, hosted]", "29:9", "the last rule has a `when`"),
        ("when: request.n > 1", "when: 1 < 2", "25:15", "looks at nothing"),
        ("when: request.n > 1", "when: caller.team.matches('[a-z]{30}')", "25:35", "slow"),
        ("  hosted:\n    hosting", "  spare: {hosting: managed, provider: openai, model: m, can: [chat], credential: env:K}\n  hosted:\n    hosting", "12:3", 'no rule uses the target "spare"'),
    ],
)  # fmt: skip
def test_a_warning_lets_the_policy_go_live_and_is_told(old: str, new: str, place: str, words: str) -> None:
    text = changed(old, new)
    if "spare" in new:
        text += "    spare: {usd_per_million_tokens: {prompt: 1, cached_prompt: 1, completion: 1}}\n"
    compiled = compile_policy({"policy.yaml": text})
    (finding,) = compiled.findings
    assert finding.severity is Severity.WARNING
    assert f"{finding.line}:{finding.column}" == place
    assert words in finding.message


def test_a_refusal_carries_the_warnings_too() -> None:
    text = changed("when: request.n > 1", "when: 1 < 2").replace("attempts: 3", "attempts: 0")
    with pytest.raises(PolicyInvalid) as refused:
        compile_policy({"policy.yaml": text})
    assert [finding.severity.value for finding in refused.value.findings] == ["warning", "error"]
    assert "policy.yaml:31:15: error: models.chat.attempts: 0 is out of range" in str(refused.value)


_LINES = GOOD.splitlines()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(_LINES) - 1),
    st.sampled_from(["drop", "twice", "swap", "cut", "indent", "word"]),
    st.text(alphabet="abc:{}[]-'\"#&*!|>%@ \n0.", max_size=6),
)
def test_whatever_is_edited_there_is_a_policy_or_findings_in_that_file(at: int, edit: str, noise: str) -> None:
    lines = list(_LINES)
    match edit:
        case "drop":
            del lines[at]
        case "twice":
            lines.insert(at, lines[at])
        case "swap":
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        case "cut":
            lines[at] = lines[at][: len(lines[at]) // 2]
        case "indent":
            lines[at] = f" {lines[at]}"
        case "word":
            lines[at] += noise
    for finding in findings_of("\n".join(lines)):
        assert finding.file in ("policy.yaml", "policies")
        assert finding.line <= len(lines) + noise.count("\n") + 1

"""Every way we know to break a policy file, one at a time: where it is told, and in which words.

Each case breaks the good policy in one place and expects exactly one finding there: no fault may draw others after it.
"""

# ruff: noqa: E501 - a table reads by its columns

from __future__ import annotations

import pytest

from app.domain.findings import Severity
from tests.documents.good import GOOD, changed, findings_of, told

#: what is broken → (piece, replacement, line:column, code, words of the message, words of the mend)
BREAKS: dict[str, tuple[str, str, str, str, str, str]] = {
    # ── not the YAML that is read ────────────────────────────────────────────────────────────────────────────────────
    "a colon in plain text": ("model: small", "model: small: er", "7:17", "yaml", "a `:` stands", "quotes"),
    "an open brace": ("{in_flight: 64}", "{in_flight: 64", "10:13", "yaml", "this `{` is not closed", "close it with `}`"),
    "an open bracket": ("use: [gpu-a]", "use: [gpu-a", "23:14", "yaml", "this `[` is not closed", "close it with `]`"),
    "open quotes": ("name: otherwise", 'name: "otherwise', "28:15", "yaml", "quotes opened here", "close them"),
    "a value in backticks": ("model: small", "model: `small`", "7:12", "yaml", "may not begin", "quotes"),
    "a line that fits nowhere": ("    engine: vllm", "   engine: vllm", "5:4", "yaml", "fits neither", "indentation"),
    "an unknown escape": ("name: otherwise", 'name: "other\\wise"', "28:21", "yaml", "unknown escape", "single quotes"),
    "quoted text with something after it": ('when: caller.team == "legal"', 'when: "a" == caller.team', "22:19", "yaml", "fits neither", "quotes"),
    "a tab in the indentation": ("    engine: vllm", "\tengine: vllm", "5:1", "tab", "a tab", "spaces"),
    "a second document": ("models:\n", "---\nmodels:\n", "18:1", "second-document", "second document", "file of its own"),
    "a key given twice": ("    engine: vllm", "    engine: vllm\n    engine: vllm", "6:5", "duplicate-key", "twice, first in line 5", "one of them"),
    "an anchor": ("use: [gpu-a]", "use: &home [gpu-a]", "23:14", "anchor", '"&home"', "write values out"),
    "an alias": ("model: small", "model: *small", "7:12", "alias", "aliases are not read", "write the value out"),
    "a tag": ("model: small", "model: !!str small", "7:12", "tag", "tag:yaml.org,2002:str", "quotes"),
    "a condition that begins with !": ("when: request.n > 1", "when: !request.stream", "25:15", "tag", '"!request.stream"', "quotes"),
    "a merge key": ("limits: {in_flight: 64}", "<<: {in_flight: 64}", "10:5", "merge", "does not merge", "write the keys out"),
    "a key that is a list": ("    engine: vllm", "    engine: vllm\n    [a]: 1", "6:5", "key", "must be text", "single words"),
    "a key that is a number": ("  chat:\n", "  4:\n", "19:3", "key", "must be text", '"4": in quotes'),
    "yes": ("model: small", "model: yes", "7:12", "doubtful-truth", "`yes` means true to some", '"yes" in quotes'),
    "no": ("attempts: 3", "attempts: no", "31:15", "doubtful-truth", "`no` means false", "write false"),
    "on as a key": ("    engine: vllm", "    engine: vllm\n    on: 1", "6:5", "doubtful-truth", "`on` means true", "quotes"),
    "off": ("when: request.n > 1", "when: Off", "25:15", "doubtful-truth", "`Off` means false", "quotes"),
    "y": ("type: h100", "type: y", "11:21", "doubtful-truth", "`y` means true", "quotes"),
    "a control character": ("model: small", "model: sm\x07all", "7:14", "not-text", "U+0007", ""),
    "a line separator": ("model: small", "model: sm\u2028all", "7:14", "not-text", "U+2028", ""),
    "a byte that is not UTF-8": ("model: small", "model: sm\udce9ll", "7:14", "not-text", "byte 0xe9 is not UTF-8", ""),
    # ── keys and shapes ──────────────────────────────────────────────────────────────────────────────────────────────
    "a wrong key at the top": ("rates:\n", "rate:\n", "34:1", "unknown-key", 'unknown key "rate" in the file', 'did you mean "rates"?'),
    "a wrong key in the rates": ("  machines:\n", "  machine:\n", "35:3", "unknown-key", 'unknown key "machine" in rates', '"machines"'),
    "a wrong key of a target": ("    engine: vllm", "    engine: vllm\n    contxt_tokens: 1", "6:5", "unknown-key", "in targets.gpu-a", '"context_tokens"'),
    "a wrong key of a limit": ("{in_flight: 64}", "{in_flight: 64, per_day: 2}", "10:29", "unknown-key", "in targets.gpu-a.limits", "the keys are in_flight"),
    "a wrong key of a rule": ("        prefer: cheapest", "        prefers: cheapest", "30:9", "unknown-key", "in models.chat.rules[2]", '"prefer"'),
    "a wrong key of a preference": ("prefer: cheapest", "prefer: {weighed: {gpu-a: 1}}", "30:18", "unknown-key", '"weighed"', '"weighted"'),
    "a wrong key of the time-outs": ("connect_s: 2", "connect: 2", "32:16", "unknown-key", "in models.chat.timeouts", '"connect_s"'),
    "machines as a list": ("  machines:\n    h100: {usd_per_hour: 2.50}\n", "  machines: []\n", "35:13", "shape", "rates.machines must be a mapping", "names"),
    "no hosting": ("    hosting: self_hosted\n", "", "3:3", "missing", '"hosting" is missing in targets.gpu-a', "add it"),
    "no model": ("    model: small\n", "", "3:3", "missing", '"model" is missing', "add it"),
    "no rules": ("models:\n", "models:\n  empty: {attempts: 1}\n", "19:3", "missing", '"rules" is missing in models.empty', "add it"),
    "a rule without a name": ("      - name: otherwise\n        use", "      - use", "28:9", "missing", '"name" is missing in models.chat.rules[2]', ""),
    "a wrong hosting": ("hosting: self_hosted", "hosting: selfhosted", "4:14", "word", 'cannot be "selfhosted"', '"self_hosted"'),
    "an unknown engine": ("engine: vllm", "engine: vlm", "5:13", "word", "targets.gpu-a.engine", '"vllm"'),
    "an unknown provider": ("provider: openai", "provider: anthropic", "14:15", "word", '"anthropic"', "openai, openai_compatible"),
    "an unknown ability": ("can: [chat, tools]", "can: [chat, tool]", "16:17", "word", '"tool"', '"tools"'),
    "an unknown preference": ("prefer: cheapest", "prefer: dearest", "30:17", "word", '"dearest"', '"cheapest"'),
    "nothing it can": ("can: [chat, tools]", "can: []", "16:10", "empty", "targets.hosted.can is empty", "at least one"),
    "an empty use": ("use: [gpu-a]", "use: []", "23:14", "empty", "models.chat.rules[0].use is empty", "at least one"),
    "text for a number": ("context_tokens: 8192", 'context_tokens: "8192"', "9:21", "shape", "a whole number, not text", ""),
    "a number with underscores": ("context_tokens: 8192", "context_tokens: 8_192", "9:21", "shape", "a whole number, not text", ""),
    "an octal number": ("context_tokens: 8192", "context_tokens: 0777", "9:21", "shape", "a whole number, not text", ""),
    "decimals for a whole number": ("in_flight: 64", "in_flight: 6.5", "10:25", "shape", "not a number with decimals", ""),
    "true for a number": ("attempts: 3", "attempts: true", "31:15", "shape", "a whole number, not true or false", ""),
    "a number for text": ("model: small", "model: 7", "7:12", "shape", "text, not a whole number", ""),
    "nothing for text": ("model: small", "model:", "7:11", "shape", "targets.gpu-a.model: it is empty", ""),
    "one word for a list": ("use: [gpu-a]", "use: gpu-a", "23:14", "shape", "a list, not text", ""),
    "zero in flight": ("in_flight: 64", "in_flight: 0", "10:25", "shape", "0 is out of range", ""),
    "too many attempts": ("attempts: 3", "attempts: 11", "31:15", "shape", "from 1 to 10", ""),
    "no time to connect": ("connect_s: 2", "connect_s: 0", "32:27", "shape", "0 is out of range", ""),
    "a name with capitals": ("  machines:\n", "  machines:\n    H200: {usd_per_hour: 3}\n", "36:5", "name", '"H200"', ""),
    "a model's name with a space": ("  chat:\n", '  "the chat":\n', "19:3", "name", '"the chat"', ""),
    "a rule's name on two lines": ("name: otherwise", 'name: "other\\nwise"', "28:15", "shape", "one line", ""),
    "a timezone that is none": ("Europe/Berlin", "Europe/Bern", "1:11", "timezone", '"Europe/Bern" is no timezone', "IANA"),
    "a timezone that climbs": ("Europe/Berlin", "../../etc/passwd", "1:11", "timezone", "is no timezone", "IANA"),
    # ── what a schema cannot see ─────────────────────────────────────────────────────────────────────────────────────
    "a target that no file has": ("use: [gpu-a]", "use: [gpu-b]", "23:15", "unknown-target", '"gpu-b", which no file has', '"gpu-a"'),
    "a target used twice": ("use: [gpu-a]", "use: [gpu-a, gpu-a]", "23:22", "repeated", "written twice", "remove one"),
    "an ability twice": ("can: [chat, tools]", "can: [chat, chat]", "16:17", "repeated", "written twice", "remove one"),
    "a rule that is never reached": ("        when: request.n > 1\n", "", "27:9", "unreachable", '"otherwise" and what follows', "to the end"),
    "two rules of one name": ("name: by weight", "name: otherwise", "28:15", "duplicate-name", "rule of line 24", "rename one"),
    "a weight for nobody": ("gpu-a: 90, hosted: 10", "gpu-a: 90, hosted: 10, other: 1", "27:52", "weights", '"other"', ""),
    "a weight missing": ("{gpu-a: 90, hosted: 10}", "{gpu-a: 90}", "27:18", "weights", '"hosted" has no weight', "hosted: 1"),
    "weights all zero": ("gpu-a: 90, hosted: 10", "gpu-a: 0, hosted: 0", "27:18", "weights", "every weight is 0", "at least 1"),
    "a weight below zero": ("gpu-a: 90", "gpu-a: -1", "27:36", "shape", "-1 is out of range", ""),
    "a weight that is no whole number": ("gpu-a: 90", "gpu-a: 0.9", "27:36", "shape", "a whole number", ""),
    "a default over the most": ("default: 256", "default: 5000", "33:30", "bounds", "over the most of 4096", ""),
    "a part longer than the whole": ("first_token_s: 10", "first_token_s: 301", "32:45", "bounds", "never reached", "total_s"),
    "a rule that serves no endpoint": ("can: [chat, completions]", "can: [tools]", "23:9", "no-endpoint", "serves chat or completions", "`chat`"),
    "a self-hosted target without an engine": ("    engine: vllm\n", "", "3:3", "missing", "names no engine", "engine:"),
    "a self-hosted target with a provider": ("    engine: vllm", "    engine: vllm\n    provider: openai", "6:5", "misplaced", "managed targets", "engine"),
    "a self-hosted target without a url": ("    url: http://127.0.0.1:8001/v1\n", "", "3:3", "missing", "has no url", "url:"),
    "a managed target with an engine": ("    provider: openai", "    provider: openai\n    engine: vllm", "15:5", "misplaced", "self-hosted targets", "provider"),
    "a managed target with a machine": ("    provider: openai", "    provider: openai\n    machine: {type: h100}", "15:5", "misplaced", "priced by the token", "remove"),
    "a managed target without a provider": ("    provider: openai\n", "", "12:3", "missing", "names no provider", "provider:"),
    "a managed target without a url": ("provider: openai", "provider: openai_compatible", "12:3", "missing", "has no url", "url:"),
    "a managed target without a credential": ("    credential: env:OPENAI_API_KEY\n", "", "12:3", "missing", "has no credential", "env:"),
    "a secret in the file": ("env:OPENAI_API_KEY", "sk-proj-abcdef", "17:17", "credential", "by reference, never by value", "env:OPENAI_API_KEY"),
    "a reference without a name": ("env:OPENAI_API_KEY", '"env:"', "17:17", "credential", "by reference", "env:"),
    "clear text to the outside": ("http://127.0.0.1:8001/v1", "http://gpu.example.com/v1", "6:10", "url", "clear text", "https://"),
    "no scheme": ("http://127.0.0.1:8001/v1", "127.0.0.1/v1", "6:10", "url", "not a URL", ""),
    "another scheme": ("http://127.0.0.1:8001/v1", "ftp://127.0.0.1/v1", "6:10", "url", "http:// or https://", ""),
    "a password in the url": ("http://127.0.0.1:8001/v1", "http://me:secret@127.0.0.1/v1", "6:10", "url", "no user and no password", "credential"),
    # ── prices ───────────────────────────────────────────────────────────────────────────────────────────────────────
    "a managed target without a price": ("usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}", "{}", "12:3", "unpriced", '"hosted" is not known', "rates.targets.hosted"),
    "half a price": ("cached_prompt: 0.025, ", "", "39:7", "missing", '"cached_prompt" is missing', "add it"),
    "a negative price": ("prompt: 0.25,", "prompt: -0.25,", "39:40", "shape", "-0.25 is out of range", ""),
    "a price that is not a number": ("prompt: 0.25,", "prompt: .nan,", "39:40", "shape", "a number, not text", ""),
    "a price without end": ("prompt: 0.25,", "prompt: 1e-30,", "39:40", "shape", "more than 12 decimals", ""),
    "a machine without a price": ("type: h100", "type: h200", "11:21", "unpriced", 'machine "h200" is not known', '"h100"'),
    "no machine": ("    machine: {type: h100, count: 2}\n", "", "3:3", "unpriced", "names no machine", "machine:"),
    "a machine for nothing": ("usd_per_hour: 2.50", "usd_per_hour: 0", "36:26", "shape", "0 is out of range", ""),
    "a speed of zero": ("decode_tokens_per_s: 3000", "decode_tokens_per_s: 0", "41:67", "shape", "0 is out of range", ""),
    "speeds for nobody": ("    gpu-a:\n      measured", "    gpu-b:\n      measured", "40:5", "unknown-target", "which is no target", '"gpu-a"'),
    "a token price of one's own machine": ("measured: {prefill_tokens_per_s: 9000, decode_tokens_per_s: 3000}", "usd_per_million_tokens: {prompt: 1, cached_prompt: 1, completion: 1}", "41:7", "misplaced", "self-hosted", "remove"),
    # ── conditions ───────────────────────────────────────────────────────────────────────────────────────────────────
    "an unknown name": ('caller.team == "legal"', 'callr.team == "legal"', "22:15", "condition", 'no name "callr"', '"caller"'),
    "an unknown field": ('caller.team == "legal"', 'caller.taem == "legal"', "22:22", "condition", 'no field "taem"', '"team"'),
    "an unknown field past an or": ('caller.team == "legal"', "request.n > 0 || request.cost > 1", "22:40", "condition", 'no field "cost"', ""),
    "a condition that is no question": ('caller.team == "legal"', "request.prompt_tokens", "22:15", "condition", "is a whole number", "compare"),
    "a number against text": ('caller.team == "legal"', 'request.n == "1"', "22:25", "condition", "never equals", "remove the quotes"),
    "one equals sign": ('caller.team == "legal"', 'caller.team = "legal"', "22:27", "condition", "`=` is no operator", "=="),
    "a word for an operator": ('caller.team == "legal"', "request.stream and request.n > 1", "22:30", "condition", "`and` is no operator", "&&"),
    "an open parenthesis": ('caller.team == "legal"', "(request.n > 1", "22:29", "condition", "is closed with `)`", ""),
    "a broken pattern": ('caller.team == "legal"', 'caller.team.matches("(")', "22:35", "condition", "unclosed group", "RE2"),
    "true or false where text is wanted": ("when: request.n > 1", "when: true", "25:15", "shape", "text, not true or false", ""),
    "an empty condition": ("when: request.n > 1", 'when: ""', "25:16", "condition", "ends too early", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_one_fault_is_told_once_where_it_is_and_in_plain_words(what: str) -> None:
    old, new, place, code, message, mend = BREAKS[what]
    findings = findings_of(changed(old, new))
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    assert [str(finding) for finding in errors] == [str(errors[0])] if errors else findings
    (found,) = errors
    assert f"{found.line}:{found.column}" == place, found
    assert found.code == code, found
    assert message in found.message, found
    assert mend in found.mend, found


def test_a_secret_is_never_repeated() -> None:
    for finding in findings_of(changed("env:OPENAI_API_KEY", "sk-proj-abcdef")):
        assert "sk-proj" not in str(finding)
    for finding in findings_of(changed("http://127.0.0.1:8001/v1", "http://me:hunter2@127.0.0.1/v1")):
        assert "hunter2" not in str(finding)


def test_the_good_policy_has_no_findings() -> None:
    assert findings_of(GOOD) == ()


def test_a_speed_that_makes_a_token_cost_over_a_dollar_is_an_error() -> None:
    text = GOOD.replace("usd_per_hour: 2.50", "usd_per_hour: 100000").replace(
        "decode_tokens_per_s: 3000", "decode_tokens_per_s: 1"
    )
    assert told(text) == [("policy.yaml:41:67", "range")]


def test_many_faults_are_told_together_in_the_order_of_the_file() -> None:
    text = GOOD.replace("engine: vllm", "engine: vlm").replace("attempts: 3", "attempts: 0").replace("h100:", "h200:")
    places = [(finding.line, finding.code) for finding in findings_of(text)]
    assert places == [(5, "word"), (31, "shape")]

"""Rows of the failure matrix, each on targets of its own behind one gateway: what the caller sees, what is booked, how
long it takes. `alone` is a model with the failing target only, `covered` one with another target behind it."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from app.bootstrap.office import office
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.usage import UsageSource
from tests.certificates import ROOTS_FILE, serving
from tests.gateway_process import GatewayProcess
from tests.upstream import (
    LAST_PART,
    PROMPT_TOKENS,
    Answer,
    Finish,
    Hang,
    Heard,
    ScriptedUpstream,
    chunk,
    completion,
    full_queue,
    part,
    refusal,
    stream,
    stream_head,
    unreachable_url,
    usage_chunk,
    whole,
)

HELLO = [{"role": "user", "content": "hello"}]
TIMEOUTS = {"connect_s": 2, "first_token_s": 2, "idle_s": 2, "total_s": 10}
#: Prices in nanodollars a token.
PRICES = {"prompt": 1, "cached_prompt": 0.1, "completion": 10}
CAP = 50
#: Nobody waits longer than this for what is to come at once; the machine is shared.
AT_ONCE_S = 8.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a caller got."""

    status: int
    body: bytes
    headers: dict[str, str]
    took_s: float
    receipt: Receipt

    @property
    def code(self) -> str:
        error: dict[str, str] = json.loads(self.body)["error"]
        return error["code"]


@dataclass(slots=True)
class Bed:
    """One gateway in front of a target for each case, and of one that serves. A case is a name and where it leads."""

    upstream: ScriptedUpstream
    serves: ScriptedUpstream
    gateway: GatewayProcess
    scripts: dict[str, list[Answer]] = field(default_factory=dict)

    def answer(self, heard: Heard) -> Answer:
        """What is left of the script of that case; the last answer again and again."""
        script = self.scripts[heard.path.split("/")[1]]
        return script.pop(0) if len(script) > 1 else script[0]

    def heard(self, case: str) -> int:
        return sum(heard.path.split("/")[1] == case for heard in self.upstream.heard)

    async def ask(self, model: str, *, stream: bool = False) -> Seen:
        ask = {"model": model, "messages": HELLO, "stream": stream, "max_tokens": CAP}
        began_s = time.monotonic()
        async with self.gateway.session() as session, session.post("/v1/chat/completions", json=ask) as answer:
            body = await answer.read()
            took_s = time.monotonic() - began_s
            headers = {name.lower(): said for name, said in answer.headers.items()}
        return Seen(answer.status, body, headers, took_s, await self.gateway.receipt(headers["x-request-id"]))


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path, books_url: str) -> AsyncIterator[Start]:
    """Start a bed: `scripts` are cases whose target is scripted, `urls` those that lead elsewhere."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedUpstream())
        serves = await stack.enter_async_context(ScriptedUpstream())

        async def start_it(scripts: dict[str, list[Answer]], *, accounts: Sequence[str] = (), **urls: str) -> Bed:
            base = upstream.url.removesuffix("/v1")
            places = {case: f"{base}/{case}/v1" for case in scripts} | urls
            policies, data = tmp_path / "policies", tmp_path / "data"
            policies.mkdir()
            data.mkdir()
            (policies / "all.yaml").write_text(json.dumps(_policy(places, serves.url, accounts)))
            gateway = GatewayProcess(data=data, policies=policies, database_url=books_url)
            # An authority of our own, as a house would add its own to the system's.
            gateway.environment = {
                "SSL_CERT_FILE": str(ROOTS_FILE),
                **{_account(f"{case}-{model}"): "secret" for case in accounts for model in ("alone", "covered")},
            }
            bed = Bed(upstream, serves, gateway, scripts)
            upstream.always(bed.answer)
            serves.always(lambda heard: stream() if heard.json.get("stream") else whole())
            await gateway.start()
            stack.callback(gateway.stop)
            return bed

        yield start_it


def _policy(places: dict[str, str], serves: str, accounts: Sequence[str]) -> dict[str, object]:
    targets = {f"{case}-{model}": url for case, url in places.items() for model in ("alone", "covered")}
    targets["serves"] = serves
    rules = {name: [name, "serves"] if name.endswith("-covered") else [name] for name in targets}
    seller = {"hosting": "managed", "provider": "openai", "model": "upstream-model", "can": ["chat"]}
    return {
        "targets": {
            name: {**seller, "url": url}
            | ({"credential": f"env:{_account(name)}"} if name.rpartition("-")[0] in accounts else {})
            for name, url in targets.items()
        },
        "models": {name: {"timeouts": TIMEOUTS, "rules": [{"name": "all", "use": use}]} for name, use in rules.items()},
        "rates": {"targets": {name: {"usd_per_million_tokens": PRICES} for name in targets}},
    }


def _account(target: str) -> str:
    """The name of the secret of an account of its own."""
    return f"ACCOUNT_{target.upper().replace('-', '_')}"


async def _all(bed: Bed, models: Iterable[str], *, stream: bool = False) -> dict[str, Seen]:
    """All of them at once; by model."""
    names = list(models)
    return dict(zip(names, await asyncio.gather(*[bed.ask(name, stream=stream) for name in names]), strict=True))


def _is_free(receipt: Receipt) -> bool:
    first = receipt.attempts[0]
    return first.charge == 0 and first.usage_source is UsageSource.NOTHING_SENT


# ── F-1 to F-9: refusals, silence, nobody there ──────────────────────────────────────────────────────────────────────


def _an_hour_from_now() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


def _error(status: int, **error: object) -> Answer:
    return refusal(status, json.dumps({"error": {"message": "as scripted", **error}}).encode())


def _pauses() -> dict[str, str]:
    """F-2; one of them is a moment, so that they are of when a test asks for them."""
    return {"hour": "3600", "date": _an_hour_from_now(), "negative": "-5", "word": "abc", "monstrous": "1e9"}


#: F-3.
NO_MONEY = {
    "quota": _error(429, type="insufficient_quota", code="insufficient_quota"),
    "organization": _error(429, type="invalid_request_error", code="organization_spend_limit_exceeded"),
    "project": _error(400, type="invalid_request_error", code="project_spend_limit_exceeded"),
    "spend": _error(429, type="rate_limit_error", error_code="enforced_spend_limit_reached"),
    "payment": _error(402),
}


async def test_a_pause_of_any_spelling_is_bounded_and_money_that_is_gone_is_asked_for_once(start: Start) -> None:
    pauses = _pauses()
    bed: Bed = await start(
        {
            "second": [refusal(429, headers=(("retry-after", "1"),)), whole()],
            **{name: [refusal(429, headers=(("retry-after", said),))] for name, said in pauses.items()},
            **{name: [answer] for name, answer in NO_MONEY.items()},
        },
        accounts=list(NO_MONEY),
    )
    names = [*pauses, *NO_MONEY]
    covered = await _all(bed, [f"{name}-covered" for name in [*names, "second"]])
    for name, seen in covered.items():
        assert (seen.status, seen.headers["x-breakeven-target"]) == (200, "serves"), name
        assert _is_free(seen.receipt), name
        assert [attempt.outcome for attempt in seen.receipt.attempts] == [Outcome.REFUSED, Outcome.COMPLETE], name
        assert seen.took_s < AT_ONCE_S, name
    bed.scripts["second"] = [refusal(429, headers=(("retry-after", "1"),)), whole()]
    waited = await bed.ask("second-alone")
    assert (waited.status, len(waited.receipt.attempts), _is_free(waited.receipt)) == (200, 2, True)
    assert waited.took_s >= 1
    assert waited.receipt.charge == waited.receipt.attempts[1].charge > 0
    for name, seen in (await _all(bed, [f"{name}-alone" for name in names])).items():
        assert seen.status == (429 if name.removesuffix("-alone") in pauses else 503), name
        assert 1 <= int(seen.headers.get("retry-after", "1")) <= 63, name
        assert (len(seen.receipt.attempts), seen.receipt.charge) == (1, 0), name
        assert seen.took_s < AT_ONCE_S, name
        assert "-alone" in json.loads(seen.body)["error"]["message"], name
    both = [f"{name}-{model}" for name in NO_MONEY for model in ("alone", "covered")]
    before = {name: bed.heard(name) for name in NO_MONEY}
    for _ in range(2):
        for name, seen in (
            await _all(bed, [f"{name}-{model}" for name in NO_MONEY for model in ("alone", "covered")])
        ).items():
            assert seen.status == (503 if name.endswith("-alone") else 200), name
    assert {name: bed.heard(name) for name in NO_MONEY} == before, "an account without money is left alone"
    said = bed.gateway.log.read_text()
    for name in both:
        assert said.count(f"env:{_account(name)} rests for") == 1, name


async def test_a_target_that_is_overloaded_silent_or_not_there_costs_callers_little(start: Start) -> None:
    async with AsyncExitStack() as stack:
        hangs = stack.enter_context(full_queue())
        dying = await stack.enter_async_context(ScriptedUpstream())
        bed: Bed = await start(
            {
                "busy": [refusal(503)],
                "full": [refusal(529)],
                "slow": [stream(first_s=60)],
            },
            dead=dying.url,
            gone=unreachable_url(),
            hangs=hangs,
            nowhere="https://no-such-host.invalid/v1",
        )
        dying.always(_error(500, type="EngineDeadError", code=500))
        cases = ["busy", "full", "dead", "gone", "nowhere"]
        for number in range(8):  # F-5, F-7, F-37, F-41
            if number == 1:
                await dying.stop()
            for name, seen in (await _all(bed, [f"{case}-covered" for case in cases], stream=True)).items():
                assert (seen.status, seen.headers["x-breakeven-target"]) == (200, "serves"), name
                assert seen.body.endswith(b"data: [DONE]\n\n"), name
                assert seen.took_s < AT_ONCE_S, name
                assert len(seen.receipt.attempts) == 1 or _is_free(seen.receipt), name
        assert max(bed.heard(case) for case in ("busy", "full")) <= 6, "five in a row, and one probe at most"
        patient = [f"{case}-{model}" for case in ("slow", "hangs") for model in ("alone", "covered")]  # F-8, F-9
        for name, seen in (await _all(bed, patient, stream=True)).items():
            case, model = name.split("-")
            assert seen.status == (200 if model == "covered" else 504 if case == "slow" else 503), name
            assert 1.8 <= seen.took_s < TIMEOUTS["total_s"], name
            first = seen.receipt.attempts[0]
            assert first.fault == ("first_token_timeout" if case == "slow" else "connect_timeout"), name
            assert (first.charge > 0) is (case == "slow"), name
            if case == "slow":
                assert "usage_estimated" in first.flags, name
        alone = await _all(bed, [f"{case}-alone" for case in ("gone", "nowhere")])
        for name, seen in alone.items():
            assert (seen.status, seen.code, seen.receipt.charge) == (503, "refused_connection", 0), name
            assert seen.took_s < AT_ONCE_S, name
            assert int(seen.headers["retry-after"]) >= 1, name


# ── F-14 to F-16: answers that are not what they seem ────────────────────────────────────────────────────────────────

BODY = completion("some words that were made", output=9)
ZIPPED = gzip.compress(BODY)
HALVES = {
    "truncated": whole(BODY[:-9], tokens=9),
    "longer": [*whole(BODY, tokens=9, length=5000), Finish()],
    "shorter": whole(BODY, tokens=9, length=len(BODY) - 9),
    "zipped": whole(ZIPPED, tokens=9, headers=(("content-encoding", "gzip"),)),
    "cut": [*whole(ZIPPED[:-8], tokens=9, headers=(("content-encoding", "gzip"),), length=len(ZIPPED)), Finish()],
    "words": whole(b"<html>502 Bad Gateway</html>"),
    "nothing": whole(b""),
}
#: Begun, and never gone on with; alone it is late, and no answer at all.
STALLS: Answer = [*whole(BODY[:-9], tokens=9, length=5000), Hang()]
#: What a target says it used; the last says nothing at all.
LIES: dict[str, object] = {
    "negative": {"prompt_tokens": -7, "completion_tokens": 2, "total_tokens": -5},
    "huge": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 10**6, "total_tokens": 10**6},
    "cached": {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 10 * PROMPT_TOKENS},
    },
    "strings": {"prompt_tokens": str(PROMPT_TOKENS), "completion_tokens": "2", "total_tokens": "x"},
    "null": None,
    "fractions": {"prompt_tokens": 7.5, "completion_tokens": 2},
    "unequal": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 2, "total_tokens": 10**9},
    "monstrous": {"prompt_tokens": 10**30, "completion_tokens": 10**30},
}


def _lying(said: object) -> Answer:
    """A whole stream with this for its usage."""
    last = [part(chunk("Hello")), part(chunk(finish="stop")), part(usage_chunk(said)), part(b"data: [DONE]\n\n")]
    return [stream_head(), part(chunk()), *last, LAST_PART]


async def test_half_an_answer_is_never_a_whole_one_and_no_usage_is_believed_beyond_what_is_possible(
    start: Start,
) -> None:
    two = [part(usage_chunk({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": count})) for count in (1, 2)]
    bed: Bed = await start(
        {
            **{name: [answer] for name, answer in HALVES.items()},
            "stalls": [STALLS],
            **{name: [_lying(said)] for name, said in LIES.items()},
            "two": [[stream_head(), part(chunk("a")), part(chunk(finish="stop")), *two, LAST_PART]],
        }
    )
    halves = [f"{name}-alone" for name in [*HALVES, "stalls"]]
    for name, seen in (await _all(bed, halves)).items():
        is_late = name == "stalls-alone"
        assert seen.status == (504 if is_late else 502), (name, seen.body)
        assert seen.code in ({"idle_timeout"} if is_late else {"cut", "invalid_answer"}), name
        assert b"some words" not in seen.body, name
        assert seen.receipt.outcome is Outcome.BROKEN, name
        assert seen.receipt.charge > 0, name
        said_itself = name == "longer-alone"  # all of it came, its usage too; only its length was wrong
        assert ("usage_estimated" in seen.receipt.flag_words) is not said_itself, name
        assert seen.took_s < AT_ONCE_S, name
    for name, seen in (await _all(bed, [name.replace("alone", "covered") for name in halves])).items():
        assert (seen.status, seen.headers["x-breakeven-target"]) == (200, "serves"), name
        broke, answered = seen.receipt.attempts
        assert (broke.outcome, answered.outcome) == (Outcome.BROKEN, Outcome.COMPLETE), name
        assert min(broke.charge, answered.charge) > 0, name
        charged = round(1e9 * float(seen.headers["x-breakeven-charge-usd"]))
        assert charged == seen.receipt.charge == broke.charge + answered.charge, name
    flagged: dict[str, set[str]] = {"usage_suspect": set(), "usage_estimated": set()}
    lies = await _all(bed, [f"{name}-alone" for name in [*LIES, "two"]], stream=True)
    for name, seen in lies.items():
        assert (seen.status, seen.receipt.outcome) == (200, Outcome.COMPLETE), name
        assert b"Hello" in seen.body or name == "two-alone", name
        usage = seen.receipt.attempts[0].usage
        # Bounded by the cap that was sent, and by a prompt that nobody counts beyond its bytes and a template.
        assert 0 < usage.output <= CAP, name
        assert 0 <= usage.cached <= usage.prompt <= 10**6, name
        assert 0 < seen.receipt.charge < 10**7, name
        for word, names in flagged.items():
            if word in seen.receipt.flag_words:
                names.add(name.removesuffix("-alone"))
    assert flagged["usage_suspect"] >= {"negative", "huge", "cached"}
    assert flagged["usage_estimated"] == {"strings", "null", "fractions", "monstrous"}
    assert lies["two-alone"].receipt.attempts[0].usage.output == 2
    async with office(bed.gateway.settings) as rooms:
        listed = await rooms.suspects.suspicious(since=datetime.now(UTC) - timedelta(hours=1), most=100)
    assert {receipt.facts.model.removesuffix("-alone") for receipt in listed} >= flagged["usage_suspect"]


# ── F-42: certificates ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_target_that_cannot_prove_who_it_is_gets_nothing_and_costs_nothing(start: Start) -> None:
    async with AsyncExitStack() as stack:
        shown = {name: ScriptedUpstream(tls=serving(name)) for name in ("good", "expired", "othername", "selfsigned")}
        for each in shown.values():
            await stack.enter_async_context(each)
            each.always(whole())
        silent = await stack.enter_async_context(await asyncio.start_server(_says_nothing, "127.0.0.1", 0))
        stalls = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1"
        bed: Bed = await start({}, **{name: each.url for name, each in shown.items()}, stalls=stalls)
        good = await bed.ask("good-alone")
        assert (good.status, good.receipt.charge > 0) == (200, True)
        bad = ["expired", "othername", "selfsigned", "stalls"]
        covered, alone = await asyncio.gather(
            _all(bed, [f"{name}-covered" for name in bad], stream=True), _all(bed, [f"{name}-alone" for name in bad])
        )
        for name, seen in covered.items():
            assert (seen.status, seen.headers["x-breakeven-target"]) == (200, "serves"), name
            assert _is_free(seen.receipt), name
            assert seen.took_s < TIMEOUTS["total_s"], name
        for name, seen in alone.items():
            assert (seen.status, seen.receipt.charge) == (503, 0), name
            assert seen.code == ("connect_timeout" if name == "stalls-alone" else "refused_connection"), name
            assert name.startswith("stalls") or b"certificate" in seen.body, name
        assert [len(shown[name].heard) for name in bad[:3]] == [0, 0, 0]


async def _says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass
    writer.close()

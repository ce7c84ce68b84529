"""`breakeven policy explain`: why a past request went where it went, or where one with given facts would go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from app.bootstrap.policy import absent_credentials, read_policy
from app.cli.books import in_office
from app.cli.output import AsJson, note, write_json, write_labelled
from app.domain.caller import Caller
from app.domain.errors import BadRequest, PolicyInvalid
from app.domain.figures import in_digits
from app.domain.findings import finding_view
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.routing.policy import Policy
from app.flows.policy_dry_run import NOBODYS_REQUEST, dry_run, dry_run_view
from app.flows.policy_replay import Verdict, explain_request, explained_view
from app.settings import read_settings

_DIFFERENCES_SHOWN = 20


class Feature(StrEnum):
    """What a request may ask for beside text; named as in the facts."""

    TOOLS = "has_tools"
    IMAGES = "has_images"
    AUDIO = "has_audio"
    JSON_SCHEMA = "json_schema"


def explain(
    directory: Annotated[Path | None, typer.Argument(help="Instead of BREAKEVEN_POLICIES.")] = None,
    request: Annotated[
        str | None, typer.Option("--request", metavar="ID", help="A past request, by the x-request-id of its answer.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="A request that nobody made, for this model.")] = None,
    team: Annotated[str, typer.Option("--team")] = "nobody",
    key: Annotated[str, typer.Option("--key", help="The id of a virtual key.")] = "nobody",
    cost_centre: Annotated[str, typer.Option("--cost-centre")] = "none",
    caller_tag: Annotated[list[str] | None, typer.Option("--caller-tag", help="Repeatable.")] = None,
    endpoint: Annotated[Endpoint, typer.Option("--endpoint")] = Endpoint.CHAT,
    stream: Annotated[bool, typer.Option("--stream/--no-stream")] = False,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=0)] = 1000,
    output_tokens_most: Annotated[int | None, typer.Option("--output-tokens-most", min=1)] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Answers asked for.")] = 1,
    needs: Annotated[list[Feature] | None, typer.Option("--needs", help="Repeatable.")] = None,
    data_class: Annotated[str, typer.Option("--data-class")] = "",
    deadline_s: Annotated[float | None, typer.Option("--deadline-s", min=0)] = None,
    priority: Annotated[int, typer.Option("--priority")] = 0,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Of the request; repeatable.")] = None,
    session: Annotated[str, typer.Option("--session", help="Names a conversation.")] = "",
    prefix_tokens: Annotated[int, typer.Option("--prefix-tokens", min=0)] = 0,
    at: Annotated[datetime | None, typer.Option("--at", help="In the policy's timezone; without it, now.")] = None,
    json: AsJson = False,
) -> None:
    """Give --request for a past request, or --model and what else is known for one that nobody made."""
    if (request is None) == (model is None):
        raise BadRequest("give either --request ID, for a past request, or --model NAME, for one that nobody made")
    if request is not None:
        if directory is not None:
            raise BadRequest("a past request is explained by the policy that decided it: leave the directory out")
        _explain_past(request, as_json=json)
        return
    assert model is not None, "one of the two is given"
    facts = RequestFacts(
        request_id=NOBODYS_REQUEST,
        model=model,
        endpoint=endpoint,
        stream=stream,
        prompt_tokens=prompt_tokens,
        output_tokens_most=output_tokens_most,
        n=n,
        data_class=data_class,
        deadline_s=deadline_s,
        priority=priority,
        tags=tuple(tag or ()),
        session=session,
        prefix_tokens=prefix_tokens,
        **{feature.value: True for feature in needs or ()},
        caller=Caller(key_id=key, team=team, cost_centre=cost_centre, tags=tuple(caller_tag or ())),
    )
    _explain_nobodys(facts, directory, at=at, as_json=json)


def _explain_past(request_id: str, *, as_json: bool) -> None:
    explained = in_office(lambda rooms: explain_request(rooms.archive, request_id))
    view = explained_view(explained)
    if as_json:
        write_json(view)
    else:
        write_labelled(_table(_past_lines(view)))
    if explained.verdict is Verdict.DIFFERENT:
        raise typer.Exit(1)


def _explain_nobodys(facts: RequestFacts, directory: Path | None, *, at: datetime | None, as_json: bool) -> None:
    policy = valid_policy(directory, as_json=as_json)
    moment = datetime.now(UTC) if at is None else at.replace(tzinfo=policy.timezone)
    view = dry_run_view(dry_run(policy, facts, at=moment))
    view["notes"] = credential_notes(policy, models={facts.model})
    if as_json:
        write_json(view)
    else:
        write_labelled(_table(_dry_lines(view)))


def _past_lines(view: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "request", f"{view['request_id']}, model {view['model']}, at {view['at']}"
    revision = view["revision"]
    yield "policy", f"{view['policy']}, by {revision['author']}" if revision else str(view["policy"])
    yield from _labelled("why", (*view["remarks"], *view["decision"]["sentences"]))
    yield "replay", str(view["replay"]["says"])
    differences = view["replay"]["differences"]
    for one in differences[:_DIFFERENCES_SHOWN]:
        yield "", f"{one['path']}: it was {_value(one['then'])}, and comes out as {_value(one['now'])}"
    if len(differences) > _DIFFERENCES_SHOWN:
        yield "", f"and {len(differences) - _DIFFERENCES_SHOWN} more: --json names them all"
    for finding in view["replay"]["findings"]:
        yield (
            "",
            f"{finding['file']}:{finding['line']}:{finding['column']}: {finding['severity']}: {finding['message']}",
        )


def _value(value: object) -> str:
    return in_digits(value, significant=None) if isinstance(value, float) else repr(value)


def _dry_lines(view: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        "dry run",
        f"model {view['facts']['model']}, at {view['at']}, on a quiet day: every target idle and in service",
    )
    yield "policy", str(view["policy"])
    yield from _labelled("why", view["decision"]["sentences"])
    yield from _labelled("note", view["notes"])


def _labelled(label: str, sentences: Iterable[object]) -> Iterator[tuple[str, str]]:
    for place, sentence in enumerate(sentences):
        yield label if place == 0 else "", str(sentence)


def _table(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in lines:
        table.add_row(label, Text(text))
    return table


def valid_policy(directory: Path | None, *, as_json: bool) -> Policy:
    """The policy of these files, or of the configured ones; with findings the command has told them and ends with 1."""
    settings = read_settings()
    if directory is not None:
        settings = settings.model_copy(update={"policies": directory})
    try:
        return read_policy(settings).policy
    except PolicyInvalid as fault:
        if as_json:
            write_json({"not_valid": "files", "findings": [finding_view(each) for each in fault.findings]})
        else:
            for finding in fault.findings:
                print(finding)
            note("the files are no valid policy: mend them first")
        raise typer.Exit(1) from fault


def credential_notes(policy: Policy, *, models: Collection[str]) -> list[str]:
    """That credentials were taken for present, with those that are not set here; empty: all that are needed are."""
    absent = absent_credentials(policy, read_settings(), models=models)
    if not absent:
        return []
    named = [f"{reference.removeprefix('env:')} ({', '.join(targets)})" for reference, targets in absent.items()]
    verb = "is" if len(named) == 1 else "are"
    return [
        f"credentials are taken for present; {', '.join(named)} {verb} not set here: without it a target is left out"
    ]

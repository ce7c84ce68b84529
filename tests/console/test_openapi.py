"""What the console tells of itself (`app.console.openapi`)."""

from __future__ import annotations

from typing import Any

from app.console.app import console_app
from app.console.openapi import openapi_of
from tests.console.served import House, console
from tests.console.test_access import API


async def test_every_route_is_told_with_the_operators_key_as_the_way_in() -> None:
    async with console() as it:
        answer = await it.get("/api/openapi.json")
    assert answer.status == 200
    assert answer.json["openapi"] == "3.1.0"
    for method, path in API:
        told = answer.json["paths"][path][method.lower()]
        assert told["security"] == [{"operator": []}]
        assert ("requestBody" in told) is (method == "POST")


def test_every_reference_leads_to_a_schema() -> None:
    document = openapi_of(console_app(House().rooms()))
    schemas = document["components"]["schemas"]
    references = list(_references(document))
    assert "#/components/schemas/RequestForm" in references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert schemas["RollbackForm"]["additionalProperties"] is False


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)

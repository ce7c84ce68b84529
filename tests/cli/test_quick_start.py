"""What a first start leaves behind (`app.cli.quick_start`), on a real database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from app.bootstrap.office import Office, office
from app.cli.quick_start import KEY_FILE, has_rates, has_rates_of_this_engine, quick_keys, report_with
from app.domain.pricing.self_host import MeasuredRates
from app.flows.keys import revoke_key
from app.settings import Settings
from app.storage.receipt_json import encode
from tests.makers import a_receipt, a_target, an_attempt

RATES = MeasuredRates(
    target="home",
    prefill_tokens_per_s=Decimal(900),
    decode_tokens_per_s=Decimal(300),
    model="smollm2",
    engine_version="vllm unknown",
    measured_at_s=1_795_435_200,
)


@pytest.fixture
async def rooms(books_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    settings = Settings(data=tmp_path).model_copy(update={"database_url": books_url})
    async with office(settings) as rooms:
        yield rooms


async def test_a_second_start_prints_the_same_key(rooms: Office, tmp_path: Path) -> None:
    first = await quick_keys(rooms, data=tmp_path)
    second = await quick_keys(rooms, data=tmp_path)
    assert second.caller == first.caller
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    record = (await rooms.keys.all())[0]
    assert (record.caller.team, record.caller.cost_centre) == ("demo", "quick-start")


async def test_the_operators_key_is_shown_only_at_the_start_that_made_it(rooms: Office, tmp_path: Path) -> None:
    assert (await quick_keys(rooms, data=tmp_path)).operator is not None
    assert (await quick_keys(rooms, data=tmp_path)).operator is None


async def test_a_key_that_was_revoked_is_replaced(rooms: Office, tmp_path: Path) -> None:
    first = await quick_keys(rooms, data=tmp_path)
    await revoke_key(rooms.keys, (await rooms.keys.all())[0].caller.key_id, clock=rooms.clock)
    second = await quick_keys(rooms, data=tmp_path)
    assert second.caller != first.caller
    assert (tmp_path / KEY_FILE).read_text().strip() == second.caller


async def test_a_file_that_is_no_key_any_more_is_replaced(rooms: Office, tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    path.write_text("scribble\n")
    path.chmod(0o600)
    assert (await quick_keys(rooms, data=tmp_path)).caller.startswith("bk_")
    os.truncate(path, 0)
    assert (await quick_keys(rooms, data=tmp_path)).caller == path.read_text().strip()


async def test_a_measurement_counts_for_its_target_model_and_engine_alone(rooms: Office) -> None:
    # Nobody answers at this target, so the version that it runs is not known.
    home = a_target("home", url="http://127.0.0.1:9/v1")
    assert not await has_rates(rooms, home)
    await rooms.rates.remember(RATES)
    assert await has_rates(rooms, home)
    assert await has_rates_of_this_engine(rooms, home)
    assert not await has_rates(rooms, a_target("home", model="another"))
    assert not await has_rates(rooms, a_target("away"))
    newer = replace(RATES, engine_version="vllm 0.33", measured_at_s=RATES.measured_at_s + 1)
    await rooms.rates.remember(newer)
    assert await has_rates(rooms, home)
    assert not await has_rates_of_this_engine(rooms, home)


async def test_the_report_waits_until_the_request_is_booked(rooms: Office) -> None:
    now_us = rooms.clock.unix_us()
    digits = f"{now_us // 1000:012x}"
    identity = f"{digits[:8]}-{digits[8:]}-7000-8000-000000000001"
    receipt = a_receipt(an_attempt(attempt_id=f"{identity}/1"), request_id=identity, at_us=now_us)
    await rooms.ledger.book([encode(receipt)])
    report = await report_with(rooms, identity)
    assert report.total.requests == 1
    assert report.total.charge == receipt.charge

"""`app.providers.engines.families`: the tables themselves."""

from __future__ import annotations

from typing import get_args

import pytest

from app.documents.policy import Engine
from app.domain.engine import EngineFamily, Lack, OnAbort, Reports, Sooner
from app.domain.signals import Combine, SignalName
from app.providers.engines.families import FAMILIES
from app.worker.scheduler import PROMPT_TOKENS_A_STEP


def test_every_engine_that_a_policy_may_name_has_its_family() -> None:
    assert set(FAMILIES) == set(get_args(Engine))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_family_with_signals_says_where_they_stand(family: EngineFamily) -> None:
    assert bool(family.metric_names) == (family.metrics is not None)
    assert all(path.startswith("/") for path in family.pages)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_ranks_are_summed_where_they_count_and_not_where_they_are_shares(family: EngineFamily) -> None:
    for name, rule in family.signals.items():
        is_share = name in {SignalName.KV_USAGE, SignalName.PREFIX_HIT_RATE}
        assert (rule.combine is Combine.SUM) != is_share, name


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_has_to_be_told_has_a_flag_that_tells_it(family: EngineFamily) -> None:
    if family.cached_tokens is Reports.IF_TOLD:
        assert family.flags_for(Lack.CACHED_TOKENS)
    assert all(flag.because.endswith(".") for flag in family.flags)


def test_the_worker_of_this_product_computes_as_many_prompt_tokens_in_a_step_as_is_said_here() -> None:
    assert FAMILIES["openvino"].step_tokens == PROMPT_TOKENS_A_STEP


def test_no_two_families_have_the_same_marks() -> None:
    marks = [mark for family in FAMILIES.values() for mark in (*family.marks.metrics, *family.marks.owned_by)]
    assert len(marks) == len(set(marks))


def test_priorities_have_the_sign_that_each_engine_gives_them() -> None:
    signs = {name: family.sooner for name, family in FAMILIES.items() if family.sooner is not Sooner.NONE}
    assert signs == {"vllm": Sooner.LOWER, "sglang": Sooner.LARGER}


def test_tgi_alone_is_marked_as_legacy() -> None:
    assert [name for name, family in FAMILIES.items() if family.legacy] == ["tgi"]
    assert FAMILIES["tgi"].on_abort is OnAbort.STOPS


def test_the_page_of_tensorrt_llm_that_is_emptied_by_its_reader_is_never_asked() -> None:
    family = FAMILIES["trtllm"]
    assert family.metrics == "/prometheus/metrics"
    assert not any(page.startswith("/metrics") for page in family.pages)

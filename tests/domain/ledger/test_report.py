from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ledger.report import (
    BooksDisagree,
    CostLine,
    CostQuery,
    Latency,
    Sums,
    added,
    bucket,
    compiled,
    percentile_ms,
)
from app.domain.money import Nanodollars

QUERY = CostQuery(since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 12, 1, tzinfo=UTC))


@given(st.lists(st.floats(min_value=1, max_value=1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_read_from_buckets_is_within_five_percent_of_the_true_one(
    times: list[float], share: float
) -> None:
    histogram: dict[int, int] = {}
    for ms in times:
        histogram[bucket(ms=ms)] = histogram.get(bucket(ms=ms), 0) + 1
    rank = next(rank for rank in range(1, len(times) + 1) if rank >= share * len(times))
    true = sorted(times)[rank - 1]
    read = percentile_ms(histogram, share=share)
    assert read is not None
    assert abs(read / true - 1) < 0.0501


def test_no_observations_have_no_percentile() -> None:
    assert percentile_ms({}, share=0.5) is None


@given(st.lists(st.tuples(st.integers(0, 10**15), st.integers(0, 10**6)), max_size=20))
def test_the_total_of_a_report_is_the_sum_of_its_lines(parts: list[tuple[int, int]]) -> None:
    lines = [
        CostLine(group=(str(place),), sums=Sums(requests=n, charge=Nanodollars(money)))
        for place, (money, n) in enumerate(parts)
    ]
    total = Nanodollars(sum(money for money, _ in parts))
    split = {"self_hosted": added([line.sums for line in lines])}
    report = compiled(query=QUERY, lines=lines, by_hosting=split, ledger_charge=total)
    assert report.total.charge == total
    assert report.total.requests == sum(n for _, n in parts)
    assert [line.sums.charge for line in report.lines] == sorted((money for money, _ in parts), reverse=True)


def test_books_that_disagree_by_one_unit_give_no_report() -> None:
    line = CostLine(group=(), sums=Sums(charge=Nanodollars(10)))
    with pytest.raises(BooksDisagree):
        compiled(query=QUERY, lines=[line], by_hosting={"managed": line.sums}, ledger_charge=Nanodollars(11))


def test_histograms_add_up_bucket_by_bucket() -> None:
    one = Sums(latency={Latency.TTFT: {1: 2, 3: 1}})
    other = Sums(latency={Latency.TTFT: {3: 4}, Latency.TPOT: {0: 1}})
    assert added([one, other]).latency == {Latency.TTFT: {1: 2, 3: 5}, Latency.TPOT: {0: 1}}

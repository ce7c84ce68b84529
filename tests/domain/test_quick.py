"""A class that is quickly made is the class that it was."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import msgspec
import pytest

from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.quick import quickly_made
from tests.makers import a_receipt, an_attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    name: str
    size: int = 3
    marks: dict[str, int] = field(default_factory=dict)

    @property
    def twice(self) -> int:
        return 2 * self.size


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    name: str
    size: int = 3
    marks: dict[str, int] = field(default_factory=dict)

    @property
    def twice(self) -> int:
        return 2 * self.size


def test_it_has_the_fields_the_defaults_and_the_signature_of_the_usual_one() -> None:
    quick, usual = Quick(name="a"), Usual(name="a")
    assert type(quick) is Quick
    assert asdict(quick) == asdict(usual) == {"name": "a", "size": 3, "marks": {}}
    assert quick.twice == 6
    assert repr(quick) == repr(usual).replace("Usual", "Quick")
    assert [each.name for each in fields(quick)] == [each.name for each in fields(usual)]
    assert list(inspect.signature(Quick).parameters) == list(inspect.signature(Usual).parameters)
    assert Quick.__init__.__annotations__ == Usual.__init__.__annotations__


def test_each_value_has_a_default_of_its_own() -> None:
    assert Quick(name="a").marks is not Quick(name="b").marks
    given = {"a": 1}
    assert Quick(name="a", marks=given).marks is given


def test_nobody_can_change_a_value_once_it_is_made() -> None:
    quick = Quick(name="a")
    with pytest.raises(FrozenInstanceError):
        quick.size = 4  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del quick.size
    with pytest.raises((AttributeError, TypeError)):
        quick.another = 4  # type: ignore[attr-defined]
    assert quick.size == 3


def test_equality_and_hash_are_the_usual_ones() -> None:
    attempt = an_attempt()
    assert attempt == an_attempt()
    assert hash(attempt) == hash(an_attempt())
    assert attempt != an_attempt(number=2)
    other: object = Usual(name="a")
    assert Quick(name="a") != other


def test_a_copy_a_replacement_and_a_pickle_are_equal_and_frozen() -> None:
    receipt = a_receipt()
    again = [copy.copy(receipt), copy.deepcopy(receipt), replace(receipt), pickle.loads(pickle.dumps(receipt))]
    assert all(each == receipt and type(each) is Receipt for each in again)
    assert replace(receipt, status=499).status == 499
    for each in again:
        with pytest.raises(FrozenInstanceError):
            each.status = 499


def test_json_is_read_into_it_and_written_from_it() -> None:
    attempt = an_attempt()
    text = msgspec.json.encode(attempt)
    read = msgspec.json.decode(text, type=Attempt)
    assert (read, type(read)) == (attempt, Attempt)
    assert msgspec.json.decode(b'{"name":"a"}', type=Quick) == Quick(name="a")


@pytest.mark.parametrize("arguments", [{}, {"name": "a", "unknown": 1}])
def test_wrong_arguments_are_refused_as_ever(arguments: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"name|unknown"):
        Quick(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Quick("a")  # type: ignore[call-arg]


def test_a_class_with_more_to_it_is_left_alone() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Checked:
        name: str

        def __post_init__(self) -> None:
            assert self.name

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Heir(Usual):
        more: int = 0

    @dataclass(frozen=True, kw_only=True)
    class Open:
        name: str

    @dataclass(frozen=True, slots=True)
    class InOrder:
        name: str

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Counting:
        name: str
        counted: int = field(default=0, init=False)

    for cls in (Checked, Heir, Open, InOrder, Counting):
        with pytest.raises(TypeError, match="leave its __init__ as it is"):
            quickly_made(cls)

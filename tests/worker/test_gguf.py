"""app.worker.gguf: heads, blocks of quantised weights, and files that are none."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from app.worker.gguf import GgufFile, NotReadable, unpacked

HALF = struct.Struct("<e")


def text(said: str) -> bytes:
    return struct.pack("<Q", len(said.encode())) + said.encode()


def metadata(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def described(name: str, dimensions: tuple[int, ...], kind: int, offset: int) -> bytes:
    """`dimensions` as the file has them, the innermost first."""
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


def a_file(
    *entries: bytes, tensors: Mapping[bytes, bytes] = {}, version: int = 3, magic: bytes = b"GGUF", cut: int = 0
) -> bytes:
    """`tensors`: how each is described → its bytes, which fill whole units of 32."""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join((*entries, *tensors))
    filled = head + b"\0" * (-len(head) % 32) if tensors else head
    whole = filled + b"".join(tensors.values())
    return whole[: len(whole) - cut]


def opened(path: Path, raw: bytes) -> GgufFile:
    path.write_bytes(raw)
    return GgufFile(path)


def test_metadata_of_every_kind_is_read(tmp_path: Path) -> None:
    entries = [
        metadata("a.count", 4, struct.pack("<I", 30)),
        metadata("a.share", 6, struct.pack("<f", 0.5)),
        metadata("a.truth", 7, b"\1"),
        metadata("a.name", 8, text("Grüße")),
        metadata("a.words", 9, struct.pack("<IQ", 8, 2) + text("one") + text("two")),
        metadata("a.kinds", 9, struct.pack("<IQ2i", 5, 2, -1, 3)),
    ]
    with opened(tmp_path / "x.gguf", a_file(*entries)) as file:
        assert file.metadata == {
            "a.count": 30,
            "a.share": 0.5,
            "a.truth": True,
            "a.name": "Grüße",
            "a.words": ["one", "two"],
            "a.kinds": [-1, 3],
        }


def test_a_tensor_has_its_rows_first_and_its_own_numbers(tmp_path: Path) -> None:
    first, second = np.arange(8, dtype="<f4"), np.arange(100, 106, dtype="<f2")
    tensors = {
        described("first", (4, 2), 0, 0): first.tobytes(),
        described("second", (3, 2), 1, 32): second.tobytes() + b"\0" * 20,
    }
    with opened(tmp_path / "x.gguf", a_file(tensors=tensors)) as file:
        assert list(file.tensors) == ["first", "second"]
        assert file.shape("first") == (2, 4)
        assert file.tensor("first").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert file.tensor("second").tolist() == [[100, 101, 102], [103, 104, 105]]


def test_blocks_of_four_bits_are_unpacked_low_halves_first() -> None:
    bits = bytes(low | (15 - low) << 4 for low in range(16))
    steps = [*range(16), *range(15, -1, -1)]
    with_least = unpacked(np.frombuffer(HALF.pack(0.5) + HALF.pack(-2.0) + bits, np.uint8), 3)
    assert with_least.tolist() == [0.5 * step - 2 for step in steps]
    around_zero = unpacked(np.frombuffer(HALF.pack(0.25) + bits, np.uint8), 2)
    assert around_zero.tolist() == [0.25 * (step - 8) for step in steps]


def test_blocks_of_eight_bits_are_unpacked_with_their_signs_each_with_its_scale() -> None:
    steps = np.arange(-16, 16, dtype=np.int8)
    two = HALF.pack(0.5) + steps.tobytes() + HALF.pack(4.0) + steps[::-1].tobytes()
    found = unpacked(np.frombuffer(two, np.uint8), 8)
    assert found.tolist() == [*(0.5 * steps.astype(float)), *(4.0 * steps[::-1].astype(float))]
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "is empty"),
        (b"PK\3\4 some other file", "is not a GGUF file"),
        (a_file(version=1), "is GGUF version 1, and versions 2 and 3 are known"),
        (a_file(metadata("a", 8, text("words")), cut=6), "is cut off or damaged"),
        (a_file(metadata("a", 4, b"")), "is cut off or damaged"),
        (a_file(metadata("a", 8, struct.pack("<Q", 2**63))), "is cut off or damaged"),
        (a_file(metadata("a", 8, struct.pack("<Q", 1) + b"\xff")), "is cut off or damaged"),
        (a_file(metadata("a", 77, b"")), "is damaged: metadata of type 77"),
        (a_file(metadata("a", 9, struct.pack("<IQ", 9, 1))), "is damaged: a list of its metadata"),
        (a_file(metadata("a", 9, struct.pack("<IQ", 8, 2**40))), "is damaged: a list of its metadata"),
        (a_file(metadata("general.alignment", 4, struct.pack("<I", 0))), "is damaged: its alignment is 0"),
        (a_file(tensors={described("deep", (1,) * 5, 0, 0): b""}), "is damaged: deep has 5 dimensions"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, raw: bytes, sentence: str) -> None:
    with pytest.raises(NotReadable, match=r"^x\.gguf ") as caught:
        opened(tmp_path / "x.gguf", raw)
    assert str(caught.value).startswith(f"x.gguf {sentence}")


def test_a_tensor_that_is_not_whole_not_there_or_packed_in_another_way_is_one_sentence(tmp_path: Path) -> None:
    tensors = {
        described("odd", (33,), 8, 0): b"\0" * 64,
        described("packed", (256,), 14, 0): b"",
        described("far", (8,), 0, 4096): b"",
    }
    with opened(tmp_path / "x.gguf", a_file(tensors=tensors)) as file:
        with pytest.raises(NotReadable, match="damaged at odd"):
            file.tensor("odd")
        with pytest.raises(NotReadable, match="ggml's type 14: use Q4_0, Q4_1"):
            file.tensor("packed")
        with pytest.raises(NotReadable, match="damaged at far"):
            file.tensor("far")
        with pytest.raises(NotReadable, match=r"x\.gguf has no tensor away"):
            file.shape("away")

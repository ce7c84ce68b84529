"""A GGUF file, read for what a conversion needs: its metadata, and its tensors as floats. Little-endian versions 2
and 3; the layout is ggml's `gguf.md`, the blocks of quantised weights its `ggml-common.h`."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_ALIGNMENT: Final = 32
_NUMBERS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT: Final = 8
_LIST: Final = 9
#: Weights in a quantised block.
_BLOCK: Final = 32


class NotReadable(Exception):
    """The file is none that can be converted; the message is a sentence without its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """How numbers of one type lie in a file: `weights` of them in blocks of `size` bytes."""

    weights: int
    size: int


#: By the type's number: F32, F16, Q4_0, Q4_1, Q8_0.
_PACKINGS: Final = {
    0: _Packing(weights=1, size=4),
    1: _Packing(weights=1, size=2),
    2: _Packing(weights=_BLOCK, size=18),
    3: _Packing(weights=_BLOCK, size=20),
    8: _Packing(weights=_BLOCK, size=34),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    shape: tuple[int, ...]
    type_number: int
    begin: int


class GgufFile:
    """Open, and to be closed. `metadata` holds numbers, texts, truths and lists of them, by key."""

    def __init__(self, path: Path) -> None:
        """Reads the head. Raises NotReadable, OSError."""
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise NotReadable(f"{path.name} is empty")
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._name = path.name
        try:
            self._read_head()
        except (struct.error, UnicodeDecodeError, OverflowError) as fault:
            self.close()
            raise NotReadable(f"{path.name} is cut off or damaged") from fault
        except NotReadable:
            self.close()
            raise

    def close(self) -> None:
        self._mapped.close()

    def __enter__(self) -> GgufFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tensors(self) -> Iterable[str]:
        """Their names, as they stand in the file."""
        return self._places.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows first, as PyTorch has them. Raises NotReadable."""
        return self._place(name).shape

    def tensor(self, name: str) -> Floats:
        """Its weights: a copy. Raises NotReadable."""
        place = self._place(name)
        packing = _PACKINGS.get(place.type_number)
        if packing is None:
            raise NotReadable(f"{name} is packed in ggml's type {place.type_number}: use Q4_0, Q4_1, Q8_0, F16 or F32")
        count = prod(place.shape)
        size = count // packing.weights * packing.size
        if count % packing.weights or place.begin + size > len(self._mapped):
            raise NotReadable(f"{self._name} is cut off or damaged at {name}")
        with memoryview(self._mapped) as whole, whole[place.begin : place.begin + size] as packed:
            floats = unpacked(np.frombuffer(packed, np.uint8).copy(), place.type_number)
        return floats.reshape(place.shape)

    def _place(self, name: str) -> _Place:
        place = self._places.get(name)
        if place is None:
            raise NotReadable(f"{self._name} has no tensor {name}")
        return place

    def _read_head(self) -> None:
        if self._mapped[:4] != _MAGIC:
            raise NotReadable(f"{self._name} is not a GGUF file")
        self._at = 4
        version = self._number(4)
        if version not in _VERSIONS:
            raise NotReadable(f"{self._name} is GGUF version {version}, and versions 2 and 3 are known")
        tensors, entries = int(self._number(10)), int(self._number(10))
        self.metadata: dict[str, object] = {}
        for _ in range(entries):
            key = self._text()
            self.metadata[key] = self._value(int(self._number(4)))
        described = [self._described() for _ in range(tensors)]
        alignment = self.metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise NotReadable(f"{self._name} is damaged: its alignment is {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        self._places = {
            name: _Place(shape=shape, type_number=kind, begin=begin + offset) for name, shape, kind, offset in described
        }

    def _described(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        dimensions = int(self._number(4))
        if not 1 <= dimensions <= 4:
            raise NotReadable(f"{self._name} is damaged: {name} has {dimensions} dimensions")
        # The file has the innermost dimension first.
        shape = tuple(int(self._number(10)) for _ in range(dimensions))[::-1]
        return name, shape, int(self._number(4)), int(self._number(10))

    def _value(self, kind: int) -> object:
        if kind == _TEXT:
            return self._text()
        if kind == _LIST:
            of, length = int(self._number(4)), int(self._number(10))
            if of == _LIST or length > len(self._mapped):
                raise NotReadable(f"{self._name} is damaged: a list of its metadata")
            return [self._value(of) for _ in range(length)]
        if kind not in _NUMBERS:
            raise NotReadable(f"{self._name} is damaged: metadata of type {kind}")
        return self._number(kind)

    def _number(self, kind: int) -> int | float:
        form = _NUMBERS[kind]
        found: int | float = struct.unpack_from(form, self._mapped, self._at)[0]
        self._at += struct.calcsize(form)
        return found

    def _text(self) -> str:
        length = int(self._number(10))
        said = self._mapped[self._at : self._at + length]
        if len(said) < length:
            raise NotReadable(f"{self._name} is cut off or damaged")
        self._at += length
        return said.decode()


def unpacked(packed: NDArray[np.uint8], type_number: int) -> Floats:
    """The weights of whole blocks, exactly: every value a block can hold fits a float32."""
    if type_number == 0:
        return packed.view("<f4").astype(np.float32)
    if type_number == 1:
        return packed.view("<f2").astype(np.float32)
    blocks = packed.reshape(-1, _PACKINGS[type_number].size)
    scale = _half(blocks, at=0)
    if type_number == 8:
        return (scale * blocks[:, 2:].view(np.int8).astype(np.float32)).ravel()
    # Low halves of the bytes are a block's first 16 weights, high halves the others.
    halves = blocks[:, 2 if type_number == 2 else 4 :]
    steps = np.concatenate((halves & 15, halves >> 4), axis=1).astype(np.float32)
    if type_number == 2:
        return (scale * (steps - 8)).ravel()
    return (scale * steps + _half(blocks, at=2)).ravel()


def _half(blocks: NDArray[np.uint8], *, at: int) -> Floats:
    """The 16-bit number of each block: a column."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)

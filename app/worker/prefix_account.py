"""An exact account of which prompt prefixes the engine holds in its key-value cache.

OpenVINO GenAI reuses cached blocks but has no way to ask how many tokens of a prompt it reused. The account keeps the
same books as the engine, block by block: it is told of every prompt, every step, every token and every end, and
follows the engine's own rules (version 2026.4.1):

- a block holds `block_tokens` tokens and is known by a key made of everything from the first token up to its last one;
- a new prompt takes whole cached blocks from the front; then at most one partly filled block;
- a prompt found whole is still computed from its last token on, because the answer starts there;
- ended sequences leave their blocks behind; those used longest ago are overwritten when no fresh block is left;
- a step first continues every answer by one token, then fills what is left of `step_tokens` with prompts, oldest first;
- when blocks run out, the youngest sequence gives some up and computes them again later (a preemption).

How it is checked: with `max_num_batched_tokens=1` the engine computes exactly one token a step, so the number of steps
it needs says how many tokens it did *not* reuse; the tests compare that with this account.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections import deque
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

Key = bytes
_ROOT: Key = b""


class PrefixAccount:
    """The books of one engine. Not thread-safe; the engine's own loop keeps it."""

    def __init__(self, *, blocks: int, block_tokens: int, step_tokens: int) -> None:
        self._pool = _Pool(blocks)
        self._block_tokens = block_tokens
        self._step_tokens = step_tokens
        self._sequences: dict[int, _Sequence] = {}
        self.preemptions = 0

    @property
    def used_share(self) -> float:
        """The part of the cache, 0 to 1, that belongs to sequences in progress."""
        return 1.0 - self._pool.available / self._pool.size

    def cached_tokens(self, prompt: Items[int]) -> int:
        """How many tokens of this prompt the engine would not compute again, if it came now."""
        return self._find(_Sequence(prompt, self._block_tokens))[1]

    def has_room(self, prompt: Items[int], *, spare: int) -> bool:
        """Would this prompt leave `spare` blocks for the answers in progress?"""
        newcomer = _Sequence(prompt, self._block_tokens)
        blocks, _, _ = self._find(newcomer)
        idle = sum(1 for block in blocks if not block.holders)
        new = -(-(newcomer.prompt_tokens + 1) // self._block_tokens) - len(blocks)
        return idle + new + spare <= self._pool.available

    def may_drop(self, request_id: int) -> bool:
        """Can this request be cancelled without leaving a half computed block behind that looks whole?

        The engine files a block under its full content before it has computed all of it, and keeps it when the request
        is cancelled then: the next prompt with that prefix reads rubbish (seen with 2026.4.1).
        """
        sequence = self._sequences[request_id]
        return sequence.waiting_tokens == 1 or sequence.processed % self._block_tokens == 0

    def must_wait(self, prompt: Items[int]) -> bool:
        """Would this prompt share a partly filled block with a prompt that is still being read?

        The engine lets both write into that block, and one answer then continues the other's text (seen with
        2026.4.1). Whoever asks must hold the prompt back until this is False; that is a step or two.
        """
        unfinished = [s for s in self._sequences.values() if s.half_block is not None and s.processed < s.prompt_tokens]
        if not unfinished:
            return False
        newcomer = _Sequence(prompt, self._block_tokens)
        half_block = self._find(newcomer)[2]
        return half_block is not None and any(s.half_block is half_block for s in unfinished)

    def admit(self, request_id: int, prompt: Items[int]) -> int:
        """The engine was given this prompt: returns how many of its tokens it will not compute again."""
        sequence = _Sequence(prompt, self._block_tokens)
        blocks, cached_tokens, half_block = self._find(sequence)
        for block in blocks:
            self._pool.take_cached(block)
        sequence.blocks, sequence.processed, sequence.half_block = blocks, cached_tokens, half_block
        self._sequences[request_id] = sequence
        return cached_tokens

    def begin_step(self) -> None:
        """The engine is about to step: blocks are handed out as its scheduler will hand them out."""
        room = self._step_tokens
        order = [s for s in self._sequences.values() if not s.cancelled]
        for position, sequence in enumerate(order):
            if room and sequence.processed >= sequence.prompt_tokens and not sequence.preempted:
                room -= self._continue_answer(sequence, room=room, younger=order[position + 1 :])
        for sequence in order:
            if room and sequence.processed < sequence.prompt_tokens and not sequence.preempted:
                room -= self._read_prompt(sequence, room=room)

    def end_step(self) -> None:
        """The step is done: what was scheduled is now in the cache."""
        for sequence in self._sequences.values():
            sequence.processed += sequence.scheduled
            sequence.longest = max(sequence.longest, sequence.processed)
            sequence.scheduled = 0
            sequence.preempted = False

    def sampled(self, request_id: int, tokens: Items[int]) -> None:
        """The step added these tokens to the answer."""
        self._sequences[request_id].tokens.extend(tokens)

    def cancelled(self, request_id: int) -> None:
        """The request was cancelled: the next step will not continue it, but holds its blocks until it is over."""
        self._sequences[request_id].cancelled = True

    def release(self, request_id: int) -> None:
        """The request is over: its blocks stay as cache until they are overwritten."""
        for block in self._sequences.pop(request_id).blocks:
            self._pool.free(block)

    def _find(self, sequence: _Sequence) -> tuple[list[_Block], int, _Block | None]:
        """What the cache has of a prompt: its blocks, the tokens they spare, and the last block if partly filled."""
        blocks: list[_Block] = []
        end = cached_tokens = 0
        while end < sequence.prompt_tokens:
            start, end = end, min(end + self._block_tokens, sequence.prompt_tokens)
            block = self._pool.find(sequence.key(end))
            if block is None:
                partial, length = self._find_partial(sequence, start)
                if partial is not None:
                    blocks.append(partial)
                    cached_tokens = length - 1 if length == sequence.prompt_tokens else length
                return blocks, cached_tokens, partial
            blocks.append(block)
            cached_tokens = end - 1 if end == sequence.prompt_tokens else end
        whole = sequence.prompt_tokens % self._block_tokens == 0
        return blocks, cached_tokens, None if whole or not blocks else blocks[-1]

    def _find_partial(self, sequence: _Sequence, start: int) -> tuple[_Block | None, int]:
        for length in range(start + 1, min(start + self._block_tokens, sequence.prompt_tokens + 1)):
            block = self._pool.find(sequence.key(length))
            if block is not None:
                return block, length
        return None, 0

    def _continue_answer(self, sequence: _Sequence, *, room: int, younger: list[_Sequence]) -> int:
        scheduled = min(room, sequence.waiting_tokens)
        needed = -(-(sequence.processed + scheduled) // self._block_tokens)
        while not self._has_room(sequence, needed) and self._preempt_youngest(sequence, needed, younger):
            pass
        if not self._has_room(sequence, needed):
            return 0
        if needed > len(sequence.blocks):
            self._allocate(sequence, needed - len(sequence.blocks))
        else:
            self._extend_last_block(sequence)
        sequence.scheduled = scheduled
        return scheduled

    def _extend_last_block(self, sequence: _Sequence) -> None:
        last, key = sequence.blocks[-1], sequence.key(len(sequence.tokens))
        if last.holders > 1:
            sequence.blocks[-1] = self._pool.allocate(key)
            self._pool.free(last)
        else:
            self._pool.rename(last, key)

    def _read_prompt(self, sequence: _Sequence, *, room: int) -> int:
        slots = (len(sequence.blocks) + self._pool.available) * self._block_tokens - sequence.processed
        scheduled = min(room, sequence.waiting_tokens, slots)
        new_blocks = -(-(sequence.processed + scheduled) // self._block_tokens) - len(sequence.blocks)
        if new_blocks > 0:
            self._allocate(sequence, new_blocks)
        sequence.scheduled = scheduled
        return scheduled

    def _allocate(self, sequence: _Sequence, count: int) -> None:
        filled = len(sequence.blocks) * self._block_tokens
        if sequence.blocks:
            key = sequence.key(filled)
            if sequence.blocks[-1].key != key:
                self._pool.rename(sequence.blocks[-1], key)
        for _ in range(count):
            filled = min(filled + self._block_tokens, len(sequence.tokens))
            sequence.blocks.append(self._pool.allocate(sequence.key(filled)))

    def _has_room(self, sequence: _Sequence, needed: int) -> bool:
        return self._missing(sequence, needed) <= self._pool.available

    def _missing(self, sequence: _Sequence, needed: int) -> int:
        """How many blocks a sequence lacks to hold `needed`, counting copies of a shared last block."""
        if len(sequence.blocks) > needed:
            return 0
        lacking = needed - len(sequence.blocks)
        holders = sequence.blocks[-1].holders if sequence.blocks else 1
        if holders == 1:
            return lacking
        return holders - 1 if lacking == 0 else lacking * holders

    def _preempt_youngest(self, target: _Sequence, needed: int, younger: list[_Sequence]) -> bool:
        """Take blocks from the youngest sequence that has any. True if that freed something."""
        victim = next((s for s in reversed(younger) if s.processed > 0), None)
        if victim is None:
            return False
        before = self._pool.available
        count = min(self._missing(target, needed), len(victim.blocks))
        if len(victim.blocks) <= count:
            victim.processed = 0
        else:
            victim.processed -= (victim.processed % self._block_tokens or self._block_tokens) + (
                count - 1
            ) * self._block_tokens
        dropped = victim.blocks[len(victim.blocks) - count :]
        for block in dropped if victim.processed == 0 else reversed(dropped):
            self._pool.free(block)
        del victim.blocks[len(victim.blocks) - count :]
        victim.half_block = None
        victim.preempted = True
        self.preemptions += 1
        return self._pool.available > before


@dataclass(slots=True, eq=False)
class _Block:
    """`used_at` orders blocks by last reuse; a block never reused keeps its place in the pool as its age."""

    index: int
    used_at: int
    key: Key = _ROOT
    holders: int = 0


@dataclass(slots=True, eq=False)
class _Sequence:
    prompt: Items[int]
    block_tokens: int
    tokens: array[int] = field(init=False)
    prompt_tokens: int = field(init=False)
    blocks: list[_Block] = field(default_factory=list)
    half_block: _Block | None = None
    processed: int = 0
    longest: int = 0
    scheduled: int = 0
    cancelled: bool = False
    preempted: bool = False
    _chain: list[Key] = field(default_factory=lambda: [_ROOT])

    def __post_init__(self) -> None:
        self.tokens = array("q", self.prompt)
        self.prompt_tokens = len(self.tokens)

    @property
    def waiting_tokens(self) -> int:
        """How many tokens are known but not in the cache; an answer in progress always has one."""
        return max(max(self.prompt_tokens, self.longest) - self.processed, 1)

    def key(self, length: int) -> Key:
        """The key of the first `length` tokens; each full block's key builds on the one before."""
        full_blocks, rest = divmod(length, self.block_tokens)
        while len(self._chain) <= full_blocks:
            start = (len(self._chain) - 1) * self.block_tokens
            self._chain.append(_digest(self._chain[-1], self.tokens[start : start + self.block_tokens]))
        if not rest:
            return self._chain[full_blocks]
        return _digest(self._chain[full_blocks], self.tokens[full_blocks * self.block_tokens : length])


def _digest(prefix: Key, tokens: array[int]) -> Key:
    return hashlib.blake2b(prefix + tokens.tobytes(), digest_size=16).digest()


class _Pool:
    """The engine's blocks: fresh ones in order, left-behind ones by age, and the index from key to block."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._index: dict[Key, _Block] = {}
        self._fresh = deque(_Block(index=index, used_at=index) for index in range(size))
        self._left: dict[Key, _Block] = {}
        self._left_by_age: list[tuple[int, int, _Block]] = []
        self._clock = size

    @property
    def available(self) -> int:
        return len(self._fresh) + len(self._left)

    def find(self, key: Key) -> _Block | None:
        """A block with this content; one left behind before one in use. (The index forgets some that were left.)"""
        return self._left.get(key) or self._index.get(key)

    def take_cached(self, block: _Block) -> None:
        """A sequence takes a block that `find` gave."""
        if self._left.get(block.key) is block:
            del self._left[block.key]
        self._touch(block)
        block.holders += 1

    def allocate(self, key: Key) -> _Block:
        """A block to be filled anew: a fresh one, else the one left behind longest ago."""
        if self._fresh:
            block = self._fresh.popleft()
        else:
            block = self._oldest_left()
            self._index.pop(block.key, None)
            self._touch(block)
        block.holders, block.key = 1, key
        self._index[key] = block
        return block

    def rename(self, block: _Block, key: Key) -> None:
        """The block's content grew: it is found under the new key only."""
        self._index.pop(block.key, None)
        block.key = key
        self._index[key] = block

    def free(self, block: _Block) -> None:
        """One holder less; without holders the block is left behind as cache, replacing a twin of the same key."""
        block.holders -= 1
        if block.holders:
            return
        twin = self._left.pop(block.key, None)
        if twin is not None:
            self._fresh.append(twin)
            if self._index.get(twin.key) is twin:
                self._index[twin.key] = block
        self._left[block.key] = block
        heapq.heappush(self._left_by_age, (block.used_at, block.index, block))

    def _oldest_left(self) -> _Block:
        while True:
            used_at, _, block = heapq.heappop(self._left_by_age)
            if self._left.get(block.key) is block and block.used_at == used_at:
                del self._left[block.key]
                return block

    def _touch(self, block: _Block) -> None:
        self._clock += 1
        block.used_at = self._clock

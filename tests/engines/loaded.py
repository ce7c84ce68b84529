"""A vLLM under load, on a real socket: it tells what runs, what waits and how full its memory is, may be full, may die,
and may come back at the same address as another.

    async with LoadedEngine() as engine:
        engine.slots = 4                 # more wait in it for their turn
        engine.others = (4, 30)          # running and waiting besides, for whom its memory is full
        await engine.stop()              # the port is closed, connections break
        engine.model = "another"
        await engine.come_back()
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush

from tests.upstream import Answer, Answering, Heard, ScriptedUpstream, Send, head, stream, whole

MODEL = "upstream-model"


class LoadedEngine(ScriptedUpstream):
    """A stream's role comes after half of `waits_s`, and each word, the finish reason, the usage and the end half of it
    later: with two words the end after three times `waits_s`. A wait for a slot comes before."""

    def __init__(self, *, model: str = MODEL) -> None:
        super().__init__()
        self.model = model
        self.waits_s = 0.3
        #: Of an answer.
        self.words = 2
        self.version = "0.11.0"
        #: How many it works on at once; None: any number.
        self.slots: int | None = None
        #: Requests that others have there: running, and waiting as its memory is full.
        self.others = (0, 0)
        #: Makes the answer of every chat in the place of its own.
        self.chat: Answering | None = None
        #: Most at once, and when that was.
        self.most = 0
        #: Tokens made since its start, as far as they were told: whoever works gets one in half of `waits_s`.
        self.tokens = 0
        self._told_s = 0.0
        #: Chats of the processes before this one.
        self._before = 0
        #: When each of its slots is free.
        self._free_s: list[float] = []
        self.always(self._answer)

    async def come_back(self) -> None:
        """Started anew at the same address: it has made nothing yet."""
        self.tokens, self._before = 0, len(self.chats)
        self._free_s.clear()
        await self.__aenter__()

    @property
    def chats(self) -> list[Heard]:
        return [heard for heard in self.heard if heard.method == "POST"]

    @property
    def in_flight(self) -> int:
        """Of ours, running or waiting in it."""
        return sum(not heard.answered and not heard.left.is_set() for heard in self.chats[self._before :][-1000:])

    def _answer(self, heard: Heard) -> Answer:
        if heard.method == "POST":
            return self._chat(heard)
        if heard.path == "/metrics":
            return self._page()
        if heard.path == "/version":
            return whole(f'{{"version": "{self.version}"}}'.encode())
        if heard.path == "/v1/models":
            return whole(f'{{"object": "list", "data": [{{"id": "{self.model}", "owned_by": "vllm"}}]}}'.encode())
        return whole(b"")

    def _chat(self, heard: Heard) -> Answer:
        self.most = max(self.most, self.in_flight + 1)
        if self.chat is not None:
            return self.chat(heard)
        first_s = self._turn_s() + self.waits_s / 2
        if not heard.json.get("stream"):
            return whole(first_s=first_s + 2.5 * self.waits_s)
        return stream(words=("some", *(" words",) * (self.words - 1)), pause_s=self.waits_s / 2, first_s=first_s)

    def _turn_s(self) -> float:
        """How long a request that comes now waits in it for a slot, which it then has."""
        if self.slots is None:
            return 0.0
        now_s = asyncio.get_running_loop().time()
        begins_s = max(now_s, heappop(self._free_s)) if len(self._free_s) >= self.slots else now_s
        heappush(self._free_s, begins_s + (self.words + 4) * self.waits_s / 2)
        return begins_s - now_s

    def _page(self) -> Answer:
        running, waiting = self.others
        ours = self.in_flight
        working = ours if self.slots is None else min(ours, self.slots)
        is_full = waiting > 0
        running, waiting = running + working, waiting + ours - working
        now_s = asyncio.get_running_loop().time()
        self.tokens += int(running * (now_s - self._told_s) / (self.waits_s / 2)) if self._told_s else 0
        self._told_s = now_s
        lines = {
            "num_requests_running": running,
            "num_requests_waiting": waiting,
            "kv_cache_usage_perc": 1.0 if is_full else min(0.8, running / 100),
            "num_preemptions_total": waiting,
            "generation_tokens_total": self.tokens,
        }
        text = "".join(f'vllm:{name}{{engine="0"}} {number}\n' for name, number in lines.items())
        named = (("content-type", "text/plain; version=0.0.4"), ("content-length", str(len(text))))
        return [head(headers=named), Send(raw=text.encode())]

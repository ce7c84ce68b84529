"""vLLM's routes over the engine link."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from msgspec.structs import replace as with_values

from app.worker.answers import AnswerGroup, Piece
from app.worker.chat_template import ChatTemplate
from app.worker.exchange import CallerLeft, Exchange, Message, Receive, Send
from app.worker.link import EngineLink
from app.worker.messages import Sampling
from app.worker.metrics import CONTENT_TYPE, Metrics
from app.worker.refusals import Refusal, bad_value, not_ready, unknown_model, unknown_route, wrong_method
from app.worker.replies import Reply
from app.worker.wire import Ask, Chat, read_chat, read_completion, read_detokenize, read_tokenize

_SEED_BITS: Final = 62
_log = logging.getLogger(__name__)

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is served. `unix_time` is the clock for the `created` fields, in seconds."""

    name: str
    weights_name: str
    context_tokens: int
    created_s: int
    unix_time: Callable[[], float]


class WorkerApp:
    """The ASGI application."""

    def __init__(self, served: Served, link: EngineLink, metrics: Metrics) -> None:
        self._served = served
        self._link = link
        self._metrics = metrics
        self._template: ChatTemplate | None = None
        self._routes: Mapping[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/completions": ("POST", self._completion),
            "/v1/models": ("GET", self._models),
            "/health": ("GET", self._health),
            "/ping": ("GET", self._health),
            "/version": ("GET", self._version),
            "/metrics": ("GET", self._metrics_text),
            "/tokenize": ("POST", self._tokenize),
            "/detokenize": ("POST", self._detokenize),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this worker speaks HTTP, not {scope['type']}")
        exchange = Exchange(scope, receive, send)
        try:
            await self._handler(scope["method"], scope["path"])(exchange)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        except CallerLeft:
            _log.debug("the caller of %s left", exchange.request_id)
        except Exception:
            _log.exception("request %s failed", exchange.request_id)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            await exchange.refuse(
                Refusal("The worker failed on this request.", status=status, kind="InternalServerError")
            )

    def _handler(self, method: str, path: str) -> Handler:
        found = self._routes.get(path)
        if found is None:
            raise unknown_route(path)
        if method not in {found[0], "HEAD" if found[0] == "GET" else found[0]}:
            raise wrong_method(method, path)
        return found[1]

    async def _chat(self, exchange: Exchange) -> None:
        ask = read_chat(await exchange.body(), context_tokens=self._served.context_tokens)
        await exchange.while_here(self._answer(exchange, ask, prefix="chatcmpl-"))

    async def _completion(self, exchange: Exchange) -> None:
        ask = read_completion(await exchange.body(), context_tokens=self._served.context_tokens)
        await exchange.while_here(self._answer(exchange, ask, prefix="cmpl-"))

    async def _answer(self, exchange: Exchange, ask: Ask, *, prefix: str) -> None:
        self._require_model(ask.model)
        prompt = self._text_of(ask.prompt) if isinstance(ask.prompt, Chat) else ask.prompt
        samplings = [_for_choice(ask, index) for index in range(ask.choices)]
        with self._link.open(prompt, samplings, add_special_tokens=ask.add_special_tokens) as group:
            reply = Reply(
                ask=ask,
                reply_id=prefix + exchange.request_id,
                created_s=int(self._served.unix_time()),
                prompt_tokens=await group.accepted(),
                answers=group.answers,
            )
            await (_stream(exchange, reply, group) if ask.stream else _whole(exchange, reply, group))

    async def _models(self, exchange: Exchange) -> None:
        served = self._served
        card = {
            "id": served.name,
            "object": "model",
            "created": served.created_s,
            "owned_by": "breakeven-worker",
            "root": served.weights_name,
            "parent": None,
            "max_model_len": served.context_tokens,
        }
        await exchange.reply({"object": "list", "data": [card]})

    async def _health(self, exchange: Exchange) -> None:
        ready = self._link.ready is not None
        await exchange.reply_raw(b"", status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _version(self, exchange: Exchange) -> None:
        if self._link.ready is None:
            raise not_ready()
        version = self._link.ready.engine_version
        await exchange.reply({"version": version, "engine": "openvino-genai", "model": self._served.weights_name})

    async def _metrics_text(self, exchange: Exchange) -> None:
        await exchange.reply_raw(self._metrics.text(), (b"content-type", CONTENT_TYPE.encode()))

    async def _tokenize(self, exchange: Exchange) -> None:
        ask = read_tokenize(await exchange.body())
        self._require_model(ask.model or self._served.name)
        text = ask.prompt
        if isinstance(text, Chat):
            text = self._text_of(text, add_generation_prompt=ask.add_generation_prompt)
        encoded = await self._link.encode(text, add_special_tokens=ask.add_special_tokens)
        if not encoded.whole:
            raise bad_value(
                f"The text has at least {len(encoded.tokens)} tokens, and this worker counts no further.",
                field="prompt",
            )
        strings = [(await self._link.decode((token,))).text for token in encoded.tokens] if ask.with_strings else None
        await exchange.reply(
            {
                "count": len(encoded.tokens),
                "max_model_len": self._served.context_tokens,
                "tokens": encoded.tokens,
                "token_strs": strings,
            }
        )

    async def _detokenize(self, exchange: Exchange) -> None:
        model, tokens = read_detokenize(await exchange.body())
        self._require_model(model or self._served.name)
        text = (await self._link.decode(tokens)).text
        if text is None:
            raise bad_value("There is a token id that the model does not have.", field="tokens")
        await exchange.reply({"prompt": text})

    def _require_model(self, name: str) -> None:
        if name != self._served.name:
            raise unknown_model(name)

    def _text_of(self, chat: Chat, *, add_generation_prompt: bool = True) -> str:
        return self._chat_template().render(chat.messages, add_generation_prompt=add_generation_prompt)

    def _chat_template(self) -> ChatTemplate:
        """Raises Refusal while the engine, which knows the template, is not there."""
        ready = self._link.ready
        if ready is None:
            raise not_ready()
        if self._template is None:
            self._template = ChatTemplate(ready.chat_template, bos_token=ready.bos_token, eos_token=ready.eos_token)
        return self._template


def _for_choice(ask: Ask, index: int) -> Sampling:
    """Each choice has its own chance: the caller's seed and the choice's number, or none that can be known before."""
    seed = ask.sampling.seed + index if ask.seeded else secrets.randbits(_SEED_BITS)
    return with_values(ask.sampling, seed=seed % 2**63)


async def _stream(exchange: Exchange, reply: Reply, group: AnswerGroup) -> None:
    opened: set[int] = set()
    async for index, piece in group.pieces():
        if not exchange.begun:
            await exchange.begin_stream()
        if index not in opened and reply.ask.chat:
            await exchange.send(reply.opening(index))
        opened.add(index)
        if piece.text or piece.ending:
            await exchange.send(reply.chunk(index, piece))
    if reply.ask.include_usage:
        await exchange.send(reply.last())
    await exchange.end_stream()


async def _whole(exchange: Exchange, reply: Reply, group: AnswerGroup) -> None:
    texts: list[list[str]] = [[] for _ in group.answers]
    last: dict[int, Piece] = {}
    async for index, piece in group.pieces():
        texts[index].append(piece.text)
        last[index] = piece
    joined = ["".join(parts) for parts in texts]
    body: dict[str, Any] = reply.whole(joined, [last[index] for index in range(len(joined))])
    await exchange.reply(body)

"""A chat as the one text that the model was trained on, by the template that came with its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.worker.refusals import bad_value


class ChatTemplate:
    """One model's template. It runs in a sandbox: a model file is not trusted with this process."""

    def __init__(self, source: str, *, bos_token: str, eos_token: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        self._template = environment.from_string(source)
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """Raises Refusal when the template does not take these messages."""
        values: dict[str, Any] = {
            **self._tokens,
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._template.render(values)
        except TemplateError as fault:
            raise bad_value(
                f"The model's chat template does not take these messages: {fault}", field="messages"
            ) from fault


def _raise(message: str) -> None:
    raise TemplateError(message)

"""app.worker.chat_template: a chat becomes the model's text."""

from __future__ import annotations

import pytest

from app.worker.chat_template import ChatTemplate
from app.worker.refusals import Refusal
from tests.worker.engine import Inside


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>")


def test_the_models_own_template_makes_what_it_was_trained_on(inside: Inside) -> None:
    own = ChatTemplate(inside.ready.chat_template, bos_token="", eos_token="")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi {{ 7 * 7 }}"}]
    assert own.render(messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi {{ 7 * 7 }}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert own.render(messages, add_generation_prompt=False).endswith("<|im_end|>\n")
    assert own.render(messages[1:]).startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


def test_a_template_may_refuse_what_it_is_given() -> None:
    with pytest.raises(Refusal, match="no system here") as refused:
        template("{{ raise_exception('no system here') }}").render([])
    assert (refused.value.status, refused.value.param) == (400, "messages")


@pytest.mark.parametrize("source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ nothing.at.all }}"])
def test_a_template_gets_out_of_its_sandbox_nowhere(source: str) -> None:
    with pytest.raises(Refusal):
        template(source).render([])


def test_a_template_knows_the_models_tokens() -> None:
    assert template("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}").render([{"content": "x"}]) == "<s>x</s>"

"""`defaults` over models and rules: what they do not say themselves, key by key. Their own word always wins."""

from __future__ import annotations

from typing import TypeVar

from app.documents.policy import WrittenDefaults, WrittenModel, WrittenOutputTokens, WrittenRule
from app.documents.words import Written

_W = TypeVar("_W", bound=Written)


def with_defaults(model: WrittenModel, defaults: WrittenDefaults) -> WrittenModel:
    """The model as it counts. What neither it nor `defaults` says stays unsaid: the product's own default."""
    return model.model_copy(
        update={
            "attempts": model.attempts if model.attempts is not None else defaults.attempts,
            "timeouts": _over(model.timeouts, defaults.timeouts),
            "recovery": model.recovery or defaults.recovery,
            "hedge": model.hedge or defaults.hedge,
            "kept_answers": model.kept_answers or defaults.kept_answers,
            "output_tokens": _output_tokens(model.output_tokens, defaults.output_tokens),
            "rules": [_rule(rule, defaults) for rule in model.rules],
        }
    )


def _rule(rule: WrittenRule, defaults: WrittenDefaults) -> WrittenRule:
    return rule.model_copy(
        update={
            "prefer": rule.prefer if rule.prefer is not None else defaults.prefer,
            "affinity": rule.affinity or defaults.affinity,
            "wait": rule.wait if rule.wait is not None else defaults.wait,
        }
    )


def _over(own: _W, usual: _W) -> _W:
    """`own`, and of `usual` the keys that it leaves out."""
    return own.model_copy(update={key: value for key, value in usual if getattr(own, key) is None})


def _output_tokens(own: WrittenOutputTokens, usual: WrittenOutputTokens) -> WrittenOutputTokens:
    """A default that comes from `usual` is cut to what the model allows."""
    merged = _over(own, usual)
    if own.default is None and merged.default is not None and merged.most is not None:
        return merged.model_copy(update={"default": min(merged.default, merged.most)})
    return merged

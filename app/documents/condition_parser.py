"""The text of a condition to a tree, with bounds: the grammar of CEL, less what conditions do not need.

The CEL library evaluates; it neither says which fields an expression reads nor of which type it is, and it takes the
process down on expressions nested some thousands deep. So a condition is read here first, and what is not understood
here never reaches the library.
"""

from __future__ import annotations

from app.documents.condition_terms import (
    Binary,
    Call,
    Choice,
    Fault,
    Field,
    Index,
    Junction,
    ListOf,
    Literal,
    Name,
    Term,
    Unary,
    Unreadable,
)
from app.documents.condition_tokens import Token, tokens

#: Characters of one condition.
MOST_CHARACTERS = 2_000
#: Levels of nesting, operators in a chain counted as levels (not those of `&&` and `||`).
MOST_DEPTH = 30

_RESERVED = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
        *("package", "namespace", "return", "var", "void", "while", "null"),
    }
)
#: Words and signs of other languages → CEL's.
_FOREIGN_WORDS = {"and": "&&", "or": "||", "not": "!", "True": "true", "False": "false", "is": "==", "None": '""'}
#: Binding powers; a higher one binds tighter.
_POWERS = {
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 1),
    **dict.fromkeys(("+", "-"), 2),
    **dict.fromkeys(("*", "/", "%"), 3),
}


def parse(text: str) -> Term:
    """The tree of a condition. Raises Unreadable with the first fault."""
    if len(text) > MOST_CHARACTERS:
        message = f"the condition has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read"
        raise Unreadable(Fault(offset=0, message=message, mend="make several rules of it"))
    parser = _Parser(text)
    term = parser.expression()
    parser.expect_end()
    return term


class _Parser:
    """Precedence climbing over the tokens; every nesting costs one level of `_deeper`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stream = tokens(text)
        self._next = next(self._stream)
        self._levels = 0

    def expression(self) -> Term:
        """A whole expression: a choice, or what is below it."""
        self._levels += 1
        if self._levels > MOST_DEPTH:
            raise self._too_deep(self._next.begins)
        test = self._junction("||")
        if self._takes("?"):
            yes = self._junction("||")
            self._expect(":", "a choice reads `test ? one : other`")
            no = self.expression()
            test = Choice(
                begins=test.begins, ends=no.ends, test=test, yes=yes, no=no, depth=self._deeper(test, yes, no)
            )
        self._levels -= 1
        return test

    def expect_end(self) -> None:
        """Nothing is left."""
        token = self._next
        if token.kind == "end":
            return
        if token.text in _FOREIGN_WORDS:
            raise self._fault(f"`{token.text}` is no operator", mend=f"write {_FOREIGN_WORDS[token.text]}")
        raise self._fault(f"`{token.text[:40]}` does not belong here", mend="join parts with && or ||")

    def _junction(self, operator: str) -> Term:
        parts = [self._junction("&&") if operator == "||" else self._binary(1)]
        while self._takes(operator):
            parts.append(self._junction("&&") if operator == "||" else self._binary(1))
        if len(parts) == 1:
            return parts[0]
        return Junction(
            begins=parts[0].begins,
            ends=parts[-1].ends,
            operator=operator,
            parts=tuple(parts),
            depth=self._deeper(*parts),
        )

    def _binary(self, weakest: int) -> Term:
        left = self._unary()
        while (power := _POWERS.get(self._next.text, 0)) >= weakest and self._next.kind in ("sign", "name"):
            operator = self._take()
            right = self._binary(power + 1)
            left = Binary(
                begins=left.begins,
                ends=right.ends,
                operator=operator.text,
                operator_begins=operator.begins,
                left=left,
                right=right,
                depth=self._deeper(left, right),
            )
        return left

    def _unary(self) -> Term:
        sign = self._next
        if sign.kind != "sign" or sign.text not in ("!", "-"):
            return self._member()
        signs = [self._take()]
        while self._next.kind == "sign" and self._next.text == sign.text:
            signs.append(self._take())
        term = self._member()
        for token in reversed(signs):
            term = Unary(begins=token.begins, ends=term.ends, operator=token.text, of=term, depth=self._deeper(term))
        return term

    def _member(self) -> Term:
        term = self._primary()
        while True:
            if self._takes("."):
                term = self._selected(term)
            elif self._takes("["):
                at = self.expression()
                ends = self._expect("]", "an index is closed with `]`").ends
                term = Index(begins=term.begins, ends=ends, of=term, at=at, depth=self._deeper(term, at))
            else:
                return term

    def _selected(self, of: Term) -> Term:
        name = self._next
        if name.kind != "name" or name.text in _RESERVED:
            raise self._fault("after a `.` comes the name of a field or function")
        self._take()
        if self._next.text == "(":
            return self._call(name, receiver=of)
        return Field(
            begins=of.begins, ends=name.ends, of=of, name=name.text, name_begins=name.begins, depth=self._deeper(of)
        )

    def _call(self, name: Token, *, receiver: Term | None) -> Term:
        self._take()
        arguments, ends = self._items(")")
        parts = arguments if receiver is None else (receiver, *arguments)
        return Call(
            begins=name.begins if receiver is None else receiver.begins,
            ends=ends,
            name=name.text,
            name_begins=name.begins,
            receiver=receiver,
            arguments=arguments,
            depth=self._deeper(*parts),
        )

    def _items(self, closing: str) -> tuple[tuple[Term, ...], int]:
        """Terms between commas up to `closing`, and where it ends."""
        items: list[Term] = []
        while self._next.text != closing or self._next.kind != "sign":
            items.append(self.expression())
            if not self._takes(","):
                break
            if closing == ")" and self._next.text == ")":
                raise self._fault("after the comma an argument is missing")
        return tuple(items), self._expect(closing, f"what was opened here ends with `{closing}`").ends

    def _primary(self) -> Term:
        token = self._next
        if token.kind in ("int", "double", "string"):
            self._take()
            return Literal(begins=token.begins, ends=token.ends, kind=token.kind, text=token.text)
        if token.kind == "name":
            return self._named()
        if self._takes("("):
            inner = self.expression()
            self._expect(")", "the parenthesis is closed with `)`")
            return inner
        if self._takes("["):
            items, ends = self._items("]")
            return ListOf(begins=token.begins, ends=ends, items=items, depth=self._deeper(*items))
        if token.text == "{":
            raise self._fault("maps are not known here", mend='compare with a list: x in ["a", "b"]')
        if token.kind == "end":
            raise self._fault("the condition ends too early", mend="complete it")
        raise self._fault(f"`{token.text}` stands where a value is expected")

    def _named(self) -> Term:
        token = self._next
        if token.text in ("true", "false"):
            self._take()
            return Literal(begins=token.begins, ends=token.ends, kind="bool", text=token.text)
        if token.text in _FOREIGN_WORDS:
            raise self._fault(f"`{token.text}` is not CEL", mend=f"write {_FOREIGN_WORDS[token.text]}")
        if token.text in _RESERVED or token.text == "in":
            raise self._fault(f"`{token.text}` stands where a value is expected")
        self._take()
        if self._next.text == "(":
            return self._call(token, receiver=None)
        return Name(begins=token.begins, ends=token.ends, name=token.text)

    def _take(self) -> Token:
        taken = self._next
        self._next = next(self._stream, taken)
        return taken

    def _takes(self, sign: str) -> bool:
        if self._next.kind == "sign" and self._next.text == sign:
            self._take()
            return True
        return False

    def _expect(self, sign: str, otherwise: str) -> Token:
        if self._next.kind == "sign" and self._next.text == sign:
            return self._take()
        raise self._fault(otherwise)

    def _deeper(self, *parts: Term) -> int:
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > MOST_DEPTH:
            raise self._too_deep(parts[0].begins)
        return depth

    def _too_deep(self, offset: int) -> Unreadable:
        message = f"the condition nests deeper than {MOST_DEPTH} levels"
        return Unreadable(Fault(offset=offset, message=message, mend="make several rules of it"))

    def _fault(self, message: str, *, mend: str = "") -> Unreadable:
        return Unreadable(Fault(offset=self._next.begins, message=message, mend=mend))

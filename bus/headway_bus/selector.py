"""Which runtimes are meant, by their labels: ``region=north and camera and not model in (old, older)``. Pure.

::

    either  = both { "or" both }
    both    = one { "and" one }
    one     = "not" one | "(" either ")" | "*" | test
    test    = label                                the label is there
            | label "exists"                       the same, in a word
            | label "=" value                      it is there and has this value
            | label "!=" value                     it is not there, or has another value
            | label "in" "(" value {"," value} ")"
            | label "not" "in" "(" … ")"           it is not there, or has another value
    label, value = letters, digits and _ . - / : @ +, or anything between ' and ' or between " and "

``and`` binds tighter than ``or``; the words are lower case and can be labels only between quotes. ``*`` is every runtime.
The label ``name`` is the runtime's name, whatever its other labels are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from headway_bus.errors import HeadwayError

MAX_CHARACTERS = 10_000
MAX_NESTING = 50
"""Parentheses and ``not`` inside one another: a text that a person wrote has a handful."""

NAME = "name"
WORDS = frozenset({"and", "or", "not", "in", "exists"})
_TOKEN = re.compile(r"""\s*(?:(?P<sign>!=|[=(),*])|(?P<word>[\w.\-/:@+]+)|(?P<quoted>'[^']*'|"[^"]*"))""")
_SPACE = re.compile(r"\s*")


class SelectorError(HeadwayError, ValueError):
    """The text is no selector. ``position`` counts characters from 0; the message shows the place."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.position = position
        shown = text if len(text) <= 200 else text[:200] + " …"
        mark = f"\n    {shown}\n    {' ' * position}^" if "\n" not in text and position <= 200 else ""
        super().__init__(f"selector, character {position + 1}: {problem}{mark}")


@dataclass(frozen=True, slots=True)
class Everything:
    """``*``"""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Has:
    """The label is there."""

    label: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.label in labels


@dataclass(frozen=True, slots=True)
class Among:
    """The label is there, with one of these values."""

    label: str
    values: tuple[str, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.label) in self.values


@dataclass(frozen=True, slots=True)
class Not:
    inner: Selector

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.inner.matches(labels)


@dataclass(frozen=True, slots=True)
class Both:
    parts: tuple[Selector, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(part.matches(labels) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Selector, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return any(part.matches(labels) for part in self.parts)


Selector = Everything | Has | Among | Not | Both | Either


def selects(selector: Selector, name: str, labels: Mapping[str, str]) -> bool:
    """Whether the runtime of that name and labels is meant."""
    return selector.matches({**labels, NAME: name})


@lru_cache(maxsize=256)
def parse(text: str) -> Selector:
    """The selector behind the text. Raises SelectorError with the position of what is wrong."""
    if len(text) > MAX_CHARACTERS:
        raise SelectorError(text, MAX_CHARACTERS, f"{len(text)} characters; at most {MAX_CHARACTERS}")
    return _Parser(text).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "sign", "word", "name" (a word that means nothing to the grammar, or quoted), "end"
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while (start := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing, too
        match = _TOKEN.match(text, at)
        if match is None:
            if text[start] in "'\"":
                raise SelectorError(text, start, f"a quotation that no {text[start]} ends")
            raise SelectorError(text, start, f"{text[start]!r} has no meaning here; other signs go between quotes")
        if match["sign"]:
            found.append(_Token("sign", match["sign"], start))
        elif match["word"]:
            found.append(_Token("word" if match["word"] in WORDS else "name", match["word"], start))
        else:
            found.append(_Token("name", match["quoted"][1:-1], start))
        at = match.end()
    found.append(_Token("end", "the end", len(text)))
    return found


class _Parser:
    """One pass, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._nesting = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def whole(self) -> Selector:
        if self._next.kind == "end":
            raise SelectorError(self._text, 0, "nothing is selected; write * for every runtime")
        selector = self._either()
        if self._next.kind != "end":
            self._fail("'and', 'or' or the end")
        return selector

    def _either(self) -> Selector:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Selector:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self) -> Selector:
        if self._take("*"):
            return Everything()
        position = self._next.position
        is_negated = self._take("not")
        if not is_negated and not self._take("("):
            return self._test()
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise SelectorError(self._text, position, f"more than {MAX_NESTING} of 'not' and '(' inside one another")
        inner = self._one() if is_negated else self._either()
        self._nesting -= 1
        if is_negated:
            return Not(inner)
        self._expect(")")
        return inner

    def _test(self) -> Selector:
        label = self._name("a label, 'not', '(' or '*'")
        if self._take("="):
            return Among(label, (self._name("a value"),))
        if self._take("!="):
            return Not(Among(label, (self._name("a value"),)))
        if self._take("in"):
            return Among(label, self._values())
        if self._take("not"):
            self._expect("in")
            return Not(Among(label, self._values()))
        self._take("exists")
        return Has(label)

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        values = [self._name("a value")]
        while self._take(","):
            values.append(self._name("a value"))
        self._expect(")")
        return tuple(values)

    def _name(self, expected: str) -> str:
        token = self._next
        if token.kind != "name":
            self._fail(expected)
        self._at += 1
        return token.text

    def _take(self, text: str) -> bool:
        token = self._next
        if token.kind == "name" or token.text != text:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(repr(text))

    def _fail(self, expected: str) -> NoReturn:
        token = self._next
        found = token.text if token.kind == "end" else repr(token.text)
        hint = " (a word of the language: put it between quotes)" if token.kind == "word" else ""
        raise SelectorError(self._text, token.position, f"expected {expected}, found {found}{hint}")

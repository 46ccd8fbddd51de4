"""The parts of a parsed expression: kinds of value, names, nodes, and the error that marks a position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from nirflow.exits import UsageError


class ValueKind(StrEnum):
    """The kinds of value of the language, as named in errors."""

    NUMBER = "a number"
    TEXT = "a text"
    FLAG = "true or false"
    MOMENT = "a time"
    DAY = "a day"
    TEXTS = "a set of texts"
    LIST = "a list"
    NOTHING = "none"


@dataclass(frozen=True)
class Name:
    """A name that an expression may use: kind of value, meaning, and the allowed texts if they are few."""

    kind: ValueKind
    meaning: str
    choices: tuple[str, ...] = ()


Vocabulary = Mapping[str, Name]


class ExpressionError(UsageError):
    """An invalid expression; marks the position with a caret.

    Parameters
    ----------
    text, column
        The expression and the position in it, counted from 0.
    problem, remedy
        The problem there and what to write instead.
    """

    def __init__(self, text: str, column: int, problem: str, *, remedy: str = "") -> None:
        self.text, self.column, self.problem = text, column, problem
        shown = "".join(c if c.isprintable() else " " for c in text)
        start = max(0, column - 60)
        window = shown[start : start + 90]
        caret = " " * (column - start) + "^"
        super().__init__(
            f"column {column + 1}: {problem}", details=f"    {window}\n    {caret}", remedy=remedy
        )


@dataclass(frozen=True)
class Literal:
    """A value written in the expression."""

    value: bool | int | float | str | date | datetime | None
    kind: ValueKind
    column: int


@dataclass(frozen=True)
class Reference:
    """A name of the vocabulary."""

    name: str
    kind: ValueKind
    column: int


@dataclass(frozen=True)
class Listing:
    """A list of values, right of ``in``."""

    items: tuple[Node, ...]
    column: int
    kind: ValueKind = field(default=ValueKind.LIST, init=False)


@dataclass(frozen=True)
class Link:
    """One comparison of a chain: ``left operator right``."""

    left: Node
    operator: str
    right: Node


@dataclass(frozen=True)
class Comparison:
    """A chain of comparisons: true where every link is."""

    links: tuple[Link, ...]
    column: int
    kind: ValueKind = field(default=ValueKind.FLAG, init=False)


@dataclass(frozen=True)
class Not:
    """The opposite."""

    operand: Node
    column: int
    kind: ValueKind = field(default=ValueKind.FLAG, init=False)


@dataclass(frozen=True)
class Junction:
    """Operands joined by ``and`` (every) or ``or`` (any)."""

    every: bool
    operands: tuple[Node, ...]
    column: int
    kind: ValueKind = field(default=ValueKind.FLAG, init=False)


Node = Literal | Reference | Listing | Comparison | Not | Junction


def walk(node: Node) -> Iterator[Node]:
    """Yield every node of a tree, each before its children."""
    yield node
    children: tuple[Node, ...] = ()
    match node:
        case Listing():
            children = node.items
        case Not():
            children = (node.operand,)
        case Junction():
            children = node.operands
        case Comparison():
            children = tuple(side for link in node.links for side in (link.left, link.right))
    for child in children:
        yield from walk(child)

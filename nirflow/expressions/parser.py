"""Parser of expressions: tokens, recursive descent, and checks of the kinds of value.

Grammar::

    either     = both { "or" both }
    both       = negation { "and" negation }
    negation   = "not" negation | comparison
    comparison = operand { ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not" "in" ) operand }
    operand    = name | [ "-" | "+" ] number | text | "true" | "false" | "none" | "(" either ")" | list
    list       = "[" [ operand { "," operand } ] "]" | "(" operand "," [ operand { "," operand } ] ")"
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final, NoReturn

from nirflow.expressions.tree import (
    Comparison,
    ExpressionError,
    Junction,
    Link,
    Listing,
    Literal,
    Node,
    Not,
    Reference,
    ValueKind,
    Vocabulary,
)

#: Maximum length and nesting of an expression: far beyond what users write, well below what would exhaust
#: Python's stack.
MAX_LENGTH: Final = 4000
MAX_DEPTH: Final = 40

_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "none"})
_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})
_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<identifier>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<symbol>==|!=|<=|>=|[<>()\[\],+-])""",
    re.VERBOSE | re.DOTALL,
)
#: Hints for syntax from other languages.
_HINTS: Final = {
    "=": "Write == to compare.",
    "&": "Write and.",
    "|": "Write or.",
    "!": "Write not, or != for unequal.",
    ".": "Names have no attributes and nothing can be called; a number starts with a digit.",
}


@dataclass(frozen=True)
class _Token:
    kind: str  # number, identifier, keyword, text, symbol, end
    text: str
    column: int


def parse(text: str, vocabulary: Vocabulary) -> Node:
    """Parse and check ``text``; see `nirflow.expressions.language.Expression.parse`."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(text, MAX_LENGTH, f"the expression is longer than {MAX_LENGTH} characters")
    return _Parser(text, vocabulary).expression()


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            character = text[position]
            problem = (
                "a text without its closing quote" if character in "'\"" else f"unexpected {character!r}"
            )
            raise ExpressionError(text, position, problem, remedy=_HINTS.get(character, ""))
        kind = found.lastgroup or ""
        if kind == "identifier" and found.group().lower() in _KEYWORDS:
            yield _Token("keyword", found.group().lower(), position)
        elif kind != "space":
            yield _Token(kind, found.group(), position)
        position = found.end()
    yield _Token("end", "", len(text))


class _Parser:
    """A recursive descent parser; each method parses one rule of the grammar."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text, self.vocabulary = text, vocabulary
        self.tokens = tuple(_tokens(text))
        self.position = 0
        self.depth = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def take(self, *texts: str) -> _Token | None:
        """Consume and return the next token if it is one of these keywords or symbols."""
        token = self.next
        if token.kind in ("keyword", "symbol") and token.text in texts:
            self.position += 1
            return token
        return None

    def fail(self, problem: str, column: int | None = None, *, remedy: str = "") -> NoReturn:
        raise ExpressionError(
            self.text, self.next.column if column is None else column, problem, remedy=remedy
        )

    def expression(self) -> Node:
        if self.next.kind == "end":
            self.fail("the expression is empty", remedy="For example: exposure_time == 120")
        tree = self.either()
        if self.next.kind != "end":
            self.fail(f"unexpected {self.next.text!r}", remedy="Join comparisons with and, or.")
        return self.flag(tree)

    def either(self) -> Node:
        return self.junction("or", self.both)

    def both(self) -> Node:
        return self.junction("and", self.negation)

    def junction(self, keyword: str, part: Callable[[], Node]) -> Node:
        first = part()
        operands = [first]
        while self.take(keyword):
            operands.append(part())
        if len(operands) == 1:
            return first
        return Junction(keyword == "and", tuple(self.flag(node) for node in operands), first.column)

    def negation(self) -> Node:
        if token := self.take("not"):
            return Not(self.flag(self.nested(token.column, self.negation)), token.column)
        return self.comparison()

    def comparison(self) -> Node:
        left = first = self.operand()
        links: list[Link] = []
        while symbol := self.comparison_symbol():
            right = self.operand()
            links.append(self.link(left, symbol, right))
            left = right
        return Comparison(tuple(links), first.column) if links else first

    def comparison_symbol(self) -> _Token | None:
        if self.next.text == "not" and self.tokens[min(self.position + 1, len(self.tokens) - 1)].text == "in":
            column = self.next.column
            self.position += 2
            return _Token("keyword", "not in", column)
        return self.take("in", *_COMPARISONS)

    def operand(self) -> Node:
        token = self.next
        if self.take("("):
            return self.nested(token.column, lambda: self.parenthesis(token))
        if self.take("["):
            return self.nested(token.column, lambda: self.listing((), token, "]"))
        if sign := self.take("-", "+"):
            if self.next.kind != "number":
                self.fail("a sign is allowed only before a number", sign.column)
            return self.number(sign)
        if token.kind == "number":
            return self.number(None)
        self.position += token.kind in ("text", "identifier")
        if token.kind == "text":
            return Literal(
                re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL), ValueKind.TEXT, token.column
            )
        if token.kind == "identifier":
            return self.reference(token)
        if self.take("true", "false"):
            return Literal(token.text == "true", ValueKind.FLAG, token.column)
        if self.take("none"):
            return Literal(None, ValueKind.NOTHING, token.column)
        found = "the expression ends" if token.kind == "end" else f"unexpected {token.text!r}"
        self.fail(f"{found} where a name or a value is expected")

    def nested(self, column: int, rule: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep", column, remedy="Write fewer parentheses.")
        node = rule()
        self.depth -= 1
        return node

    def parenthesis(self, opening: _Token) -> Node:
        inner = self.either()
        if self.take(","):
            return self.listing((inner,), opening, ")")
        if not self.take(")"):
            self.fail("a closing ) is missing", remedy=f"The ( is at column {opening.column + 1}.")
        return inner

    def listing(self, items: tuple[Node, ...], opening: _Token, closing: str) -> Node:
        found = list(items)
        while not self.take(closing):
            found.append(self.operand())
            if not self.take(","):
                if not self.take(closing):
                    self.fail(f"the list needs a comma or a closing {closing}")
                break
        for item in found:
            if item.kind in (ValueKind.LIST, ValueKind.TEXTS):
                self.fail(f"a list cannot hold {item.kind.value}", item.column)
        return Listing(tuple(found), opening.column)

    def number(self, sign: _Token | None) -> Node:
        token = self.next
        self.position += 1
        if not math.isfinite(float(token.text)):
            self.fail("the number is too large", token.column)
        value = int(token.text) if token.text.isdigit() else float(token.text)
        if sign is not None and sign.text == "-":
            value = -value
        return Literal(value, ValueKind.NUMBER, (sign or token).column)

    def reference(self, token: _Token) -> Node:
        known = self.vocabulary.get(token.text)
        if known is not None:
            return Reference(token.text, known.kind, token.column)
        close = difflib.get_close_matches(token.text.lower(), self.vocabulary, n=3, cutoff=0.6)
        guess = f"Did you mean {' or '.join(close)}? " if close else ""
        quotes = "" if close else "A text needs quotes. "
        self.fail(
            f"unknown name {token.text!r}", token.column,
            remedy=f"{guess}{quotes}Names: {', '.join(sorted(self.vocabulary))}.",
        )  # fmt: skip

    # Kinds of value

    def flag(self, node: Node) -> Node:
        """Return ``node`` if it is true or false, as an operand without a comparison must be."""
        if node.kind is not ValueKind.FLAG:
            problem = (
                f"{node.name} is {node.kind.value}"
                if isinstance(node, Reference)
                else f"this is {node.kind.value}"
            )
            self.fail(f"{problem}, not true or false", node.column, remedy="Compare it with something.")
        return node

    def link(self, left: Node, symbol: _Token, right: Node) -> Link:
        if symbol.text in ("in", "not in"):
            return self.membership(left, symbol, right)
        left, right = self.matched(left, symbol, right)
        unordered = {ValueKind.FLAG, ValueKind.NOTHING}
        if symbol.text not in ("==", "!=") and unordered & {left.kind, right.kind}:
            self.fail(
                f"{_described(left)} and {_described(right)} have no order",
                symbol.column,
                remedy="Write == or !=.",
            )
        return Link(left, symbol.text, right)

    def membership(self, left: Node, symbol: _Token, right: Node) -> Link:
        if isinstance(right, Listing):
            if left.kind in (ValueKind.LIST, ValueKind.TEXTS):
                self.fail(f"{_described(left)} cannot be in a list", left.column)
            items = tuple(self.matched(left, symbol, item)[1] for item in right.items)
            return Link(left, symbol.text, replace(right, items=items))
        if right.kind not in (ValueKind.TEXTS, ValueKind.TEXT):
            self.fail(
                f"nothing can be in {_described(right)}", right.column, remedy="Write a list: ['Y', 'J']."
            )
        if left.kind is not ValueKind.TEXT:
            self.fail(f"only a text can be in {_described(right)}, not {_described(left)}", left.column)
        if right.kind is ValueKind.TEXTS:
            left = self.chosen(left, right)
        return Link(left, symbol.text, right)

    def matched(self, left: Node, symbol: _Token, right: Node) -> tuple[Node, Node]:
        """Return both sides if their kinds can be compared; a text compared with a time is converted to
        one.
        """
        for node in (left, right):
            if node.kind in (ValueKind.LIST, ValueKind.TEXTS):
                remedy = "Write in: filter in ['Y', 'J'], 'DARK' in tags."
                self.fail(
                    f"{_described(node)} cannot be compared with {symbol.text}", node.column, remedy=remedy
                )
        left, right = self.dated(left, right), self.dated(right, left)
        left, right = self.chosen(left, right), self.chosen(right, left)
        dates = {ValueKind.MOMENT, ValueKind.DAY}
        fits = left.kind is right.kind or {left.kind, right.kind} <= dates
        if not fits and ValueKind.NOTHING not in (left.kind, right.kind):
            self.fail(f"{_described(left)} cannot be compared with {_described(right)}", symbol.column)
        return left, right

    def dated(self, node: Node, other: Node) -> Node:
        if not (isinstance(node, Literal) and node.kind is ValueKind.TEXT):
            return node
        if other.kind not in (ValueKind.MOMENT, ValueKind.DAY):
            return node
        text = str(node.value).strip()
        try:
            if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
                return Literal(date.fromisoformat(text), ValueKind.DAY, node.column)
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is neither a day nor a time", node.column,
                remedy="Write '2013-11-21' or '2013-11-21T02:52:48' (UTC).",
            )  # fmt: skip
        if other.kind is ValueKind.DAY:
            self.fail(f"{_described(other)}, without a clock time", node.column, remedy="Write '2013-11-21'.")
        return Literal(moment if moment.tzinfo else moment.replace(tzinfo=UTC), ValueKind.MOMENT, node.column)

    def chosen(self, node: Node, other: Node) -> Node:
        """Refuse a text that is never a value of the name compared with it."""
        if isinstance(node, Literal) and isinstance(other, Reference) and isinstance(node.value, str):
            choices = self.vocabulary[other.name].choices
            if choices and node.value not in choices:
                close = difflib.get_close_matches(node.value.lower(), [c.lower() for c in choices], n=1)
                hint = "".join(f"Did you mean {c!r}? " for c in choices if c.lower() in close)
                never = "never holds" if other.kind is ValueKind.TEXTS else "is never"
                self.fail(
                    f"{other.name} {never} {node.value!r}", node.column,
                    remedy=f"{hint}It is one of {', '.join(choices)}.",
                )  # fmt: skip
        return node


def _described(node: Node) -> str:
    return f"{node.name} ({node.kind.value})" if isinstance(node, Reference) else node.kind.value

"""A small safe language to choose frames and products by their facts.

``exposure_time == 120 and read_pairs == 8``, ``kind in ['dark', 'flat'] and night >= '2013-11-20'``.

An expression is parsed once against a vocabulary (the names that it may use, each with its kind of value),
so a wrong name or a comparison of a number with a text is told before the first frame is looked at. What
remains is a frozen tree that is evaluated on any mapping: nothing is ever handed to Python's own evaluator,
and the language has no calls, attributes or subscripts.

Rules
-----
- ``and``, ``or``, ``not``, parentheses; ``==  !=  <  <=  >  >=``, also chained; ``in`` and ``not in``.
- Values: numbers, ``'texts'``, lists ``['Y', 'J']``, ``true``, ``false``, ``none``, names.
- Times and days are written as texts, in UTC: ``'2013-11-21'``, ``'2013-11-21T02:52:48'``. A day beside a
  time is the whole day: ``started <= '2013-11-21'`` holds until that day's last second.
- ``in`` looks into a list, a set of texts (``'DARK' in tags``) or a text (``'WISE' in target``).
- What a frame does not know is ``none``: equal to ``none`` only, and neither below nor above anything.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from nirflow.expressions.parser import parse
from nirflow.expressions.tree import (
    Comparison,
    ExpressionError,
    Junction,
    Listing,
    Literal,
    Name,
    Node,
    Not,
    Reference,
    ValueKind,
    Vocabulary,
    walk,
)

__all__ = ["Expression", "ExpressionError", "Lookup", "Name", "ValueKind", "Vocabulary"]


#: Gives a name's value: a mapping, or a function of the name.
Lookup = Mapping[str, Any] | Callable[[str], Any]

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_PYTHON_TYPES: Final[dict[ValueKind, type | tuple[type, ...]]] = {
    ValueKind.NUMBER: (int, float),
    ValueKind.TEXT: str,
    ValueKind.FLAG: bool,
    ValueKind.MOMENT: datetime,
    ValueKind.DAY: date,
    ValueKind.TEXTS: (frozenset, set, list, tuple),
}


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Examples
    --------
    >>> from nirflow.expressions.frame_names import frame_names
    >>> long_dark = Expression.parse("kind == 'dark' and exposure_time > 60", frame_names())
    >>> long_dark.evaluate({"kind": "dark", "exposure_time": 120.0})
    True
    """

    text: str
    tree: Node

    @classmethod
    def parse(cls, text: str, vocabulary: Vocabulary) -> Expression:
        """Parse ``text``; every name must be one of ``vocabulary``.

        Raises
        ------
        ExpressionError
            Where the text is not an expression, a name is unknown, or kinds of value do not fit.
        """
        return cls(text, parse(text, vocabulary))

    @property
    def names(self) -> frozenset[str]:
        """The names that the expression uses."""
        return frozenset(node.name for node in walk(self.tree) if isinstance(node, Reference))

    def evaluate(self, lookup: Lookup) -> bool:
        """Whether the expression holds for the values that ``lookup`` gives.

        Parameters
        ----------
        lookup
            A mapping of names to values, or a function of the name. Times carry their zone.

        Raises
        ------
        ExpressionError
            Where ``lookup`` does not know a name, or its value is of another kind than the vocabulary says.
        """
        get = lookup.__getitem__ if isinstance(lookup, Mapping) else lookup
        return bool(self._value(self.tree, get))

    def _value(self, node: Node, get: Callable[[str], Any]) -> Any:
        match node:
            case Literal():
                return node.value
            case Reference():
                return self._look_up(node, get)
            case Listing():
                return [self._value(item, get) for item in node.items]
            case Not():
                return not self._value(node.operand, get)
            case Junction():
                values = (bool(self._value(operand, get)) for operand in node.operands)
                return all(values) if node.every else any(values)
            case Comparison():
                return all(
                    _holds(link.operator, self._value(link.left, get), self._value(link.right, get))
                    for link in node.links
                )

    def _look_up(self, node: Reference, get: Callable[[str], Any]) -> Any:
        try:
            value = get(node.name)
        except (KeyError, AttributeError):
            raise ExpressionError(self.text, node.column, f"no value is known for {node.name}") from None
        # A bool is an int and a datetime a date to Python; to a reader they are not.
        fits = isinstance(value, _PYTHON_TYPES[node.kind]) and not (
            (node.kind is ValueKind.NUMBER and isinstance(value, bool))
            or (node.kind is ValueKind.DAY and isinstance(value, datetime))
        )
        if value is None or fits:
            return value
        raise ExpressionError(
            self.text, node.column, f"{node.name} should be {node.kind.value} and is {value!r}"
        )


def _holds(symbol: str, left: Any, right: Any) -> bool:
    if symbol == "==":
        return _equal(left, right)
    if symbol == "!=":
        return not _equal(left, right)
    if symbol == "in":
        return _contains(right, left)
    if symbol == "not in":
        return not _contains(right, left)
    if left is None or right is None:
        return False
    return _ORDER[symbol](*_comparable(left, right))


def _equal(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is right
    left, right = _comparable(left, right)
    return bool(left == right)


def _contains(container: Any, item: Any) -> bool:
    if container is None or (item is None and not isinstance(container, list)):
        return False
    if isinstance(container, list):
        return any(_equal(item, member) for member in container)
    return item in container


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Bring a time beside a day down to its day."""
    if isinstance(left, datetime) and not isinstance(right, datetime) and isinstance(right, date):
        return left.date(), right
    if isinstance(right, datetime) and not isinstance(left, datetime) and isinstance(left, date):
        return left, right.date()
    return left, right

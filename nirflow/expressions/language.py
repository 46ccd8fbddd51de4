"""A small safe language to select frames and products by their facts.

``exposure_time == 120 and read_pairs == 8``, ``kind in ['dark', 'flat'] and night >= '2013-11-20'``.

An expression is parsed once against a vocabulary (the names that it may use, each with its kind of value), so
a wrong name or a comparison of a number with a text is reported before the first frame is examined. The
result is a frozen tree that can be evaluated on any mapping: nothing is ever passed to Python's own
evaluator, and the language has no calls, attributes or subscripts.

Rules
-----
- ``and``, ``or``, ``not``, parentheses; ``==  !=  <  <=  >  >=``, also chained; ``in`` and ``not in``.
- Values: numbers, ``'texts'``, lists ``['Y', 'J']``, ``true``, ``false``, ``none``, names.
- Times and days are written as texts, in UTC: ``'2013-11-21'``, ``'2013-11-21T02:52:48'``. A day compared
  with a time means the full day: ``started <= '2013-11-21'`` is true until that day's last second.
- ``in`` looks into a list, a set of texts (``'DARK' in tags``) or a text (``'WISE' in target``).
- A fact that a frame lacks is ``none``: equal only to ``none``, and neither below nor above anything.
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


#: Source of the names' values: a mapping, or a function of the name.
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
            If the text is not an expression, a name is unknown, or kinds of value do not match.
        """
        return cls(text, parse(text, vocabulary))

    @property
    def names(self) -> frozenset[str]:
        """The names that the expression uses."""
        return frozenset(node.name for node in walk(self.tree) if isinstance(node, Reference))

    def evaluate(self, lookup: Lookup) -> bool:
        """Return whether the expression is true for the values of ``lookup``.

        Parameters
        ----------
        lookup
            A mapping of names to values, or a function of the name. Times are timezone-aware.

        Raises
        ------
        ExpressionError
            If ``lookup`` does not know a name, or its value is not of the kind in the vocabulary.
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
        # In Python a bool is an int and a datetime is a date; for users they are not.
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
    """Reduce a time that is compared with a day to its day."""
    if isinstance(left, datetime) and not isinstance(right, datetime) and isinstance(right, date):
        return left.date(), right
    if isinstance(right, datetime) and not isinstance(left, datetime) and isinstance(left, date):
        return left, right.date()
    return left, right

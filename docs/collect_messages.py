"""The messages that report a problem, collected from the source: errors, reasons for what is left out, log lines.

Used by ``make_pages.py``. An error has to have a remedy, or its module and message have to be in `NO_REMEDY`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("imaging", "calib_store", "tasks", "flows", "deployments", "nirflow")
#: Messages of errors without a remedy, and why none is needed. A key is a module and the message's beginning.
NO_REMEDY: Final[Mapping[tuple[str, str], str]] = {}

#: Arguments of the errors whose message is not the first one.
_SECOND: Final = ("FrameError", "TooLargeError")
_LEVELS: Final = ("warning", "error", "critical", "exception")
_LOGGERS: Final = ("log", "logger")
#: Keyword arguments by which a record states why something is left out, kept or doubtful.
_REASONS: Final = ("reason", "problem")


@dataclass(frozen=True, order=True)
class Message:
    """A message of the source.

    Attributes
    ----------
    module
        Its module: ``imaging/io/raw_file.py``.
    line
        Its line.
    kind
        Name of the error's class, ``reason``, ``warning`` or the level of a log line.
    text
        What happened, to what; values as ``{name}``.
    remedy
        What to do; an empty text without a remedy. ``(its class)`` if the class of the error writes it.
    """

    module: str
    line: int
    kind: str
    text: str
    remedy: str

    @property
    def is_error(self) -> bool:
        """Whether it is an error that stops something."""
        return self.kind.endswith("Error")


def messages(root: Path = ROOT) -> list[Message]:
    """Return all messages of the packages below ``root``, by module and line."""
    trees = {
        str(path.relative_to(root)): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }
    errors = _errors(trees)
    return sorted(one for module, tree in trees.items() for one in _of_module(module, tree, errors))


def without_remedy(found: list[Message]) -> list[Message]:
    """Return the errors that have neither a remedy nor a listed reason why none is needed."""
    return [one for one in found if one.is_error and not one.remedy and reason_for(one) is None]


def reason_for(one: Message) -> str | None:
    """Return why an error needs no remedy, if that is listed."""
    for (module, start), why in NO_REMEDY.items():
        if one.module == module and one.text.startswith(start):
            return why
    return None


def _errors(trees: Mapping[str, ast.Module]) -> dict[str, bool]:
    """Return the classes of our errors, and whether their own constructor writes the remedy."""
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = {"NirflowError": False}
    while True:
        more = {
            name: _writes_remedy(node) or any(found[base] for base in map(_name, node.bases) if base in found)
            for name, node in classes.items()
            if name not in found and any(_name(base) in found for base in node.bases)
        }
        if not more:
            return found
        found |= more


def _writes_remedy(node: ast.ClassDef) -> bool:
    constructors = (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
    return any(
        keyword.arg == "remedy" and not (isinstance(keyword.value, ast.Name) and keyword.value.id == "remedy")
        for constructor in constructors
        for call in ast.walk(constructor)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
    )


def _of_module(module: str, tree: ast.Module, errors: Mapping[str, bool]) -> Iterator[Message]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _of_call(module, node, errors)
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if _name(target) == "warnings" and isinstance(node.value, (ast.Tuple, ast.List)):
                for value in node.value.elts:
                    if _literal(value):
                        yield Message(module, value.lineno, "warning", _text(value), "")


def _of_call(module: str, node: ast.Call, errors: Mapping[str, bool]) -> Iterator[Message]:
    name, owner = _name(node.func), _owner(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    remedy = _text(given["remedy"]) if "remedy" in given else ""
    if name in errors:
        at = 1 if name in _SECOND and len(node.args) > 1 else 0
        text = _text(node.args[at]) if len(node.args) > at else _text(given.get("problem") or given.get("message"))
        if name in _SECOND and "keyword" in given:
            text += f" ({_text(given['keyword'])} = {{found}}, expected {_text(given.get('expected'))})"
        yield Message(module, node.lineno, name, text, remedy or ("(its class)" if errors[name] else ""))
    elif owner in _LOGGERS and name in _LEVELS and node.args:
        yield Message(module, node.lineno, str(name), _formatted(node.args), "")
    elif owner == "warnings" and name == "append" and node.args and _literal(node.args[0]):
        yield Message(module, node.lineno, "warning", _text(node.args[0]), "")
    elif name == "excluded" and node.args and _literal(node.args[0]):
        remedy = _text(node.args[1]) if len(node.args) > 1 else remedy
        yield Message(module, node.lineno, "reason", _text(node.args[0]), remedy)
    else:
        for reason in _REASONS:
            if reason in given and _literal(given[reason]):
                yield Message(module, node.lineno, "reason", _text(given[reason]), remedy)


def _name(node: ast.expr | None) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _owner(node: ast.expr) -> str:
    return _name(node.value) if isinstance(node, ast.Attribute) else ""


def _literal(node: ast.expr) -> bool:
    """Whether an expression contains a text with a space, and not only values from elsewhere."""
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) and " " in n.value for n in ast.walk(node))


def _text(node: ast.expr | None) -> str:
    """Return an expression as the text that the user sees, with values in braces."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return " ".join(str(node.value).split()) if isinstance(node.value, str) else repr(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} / {_text(node.orelse)}"
    return f"{{{_short(node)}}}"


def _part(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value).replace("\n", " ")
    return f"{{{_short(value.value)}}}" if isinstance(value, ast.FormattedValue) else _text(value)


def _short(node: ast.expr) -> str:
    """Return a short name for a value: its last attribute, the function that makes it, or its source."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call):
        inner = [_short(argument) for argument in node.args if isinstance(argument, (ast.Name, ast.Attribute))]
        return inner[0] if inner else _name(node.func) or "..."
    if isinstance(node, ast.Subscript):
        return _short(node.value)
    return next((_short(n) for n in ast.walk(node) if isinstance(n, (ast.Name, ast.Attribute))), "...")


def _formatted(arguments: list[ast.expr]) -> str:
    """Return a log line with its arguments in place of the format's conversions."""
    values = iter(arguments[1:])

    def put(match: re.Match[str]) -> str:
        value = next(values, None)
        return "%" if match.group() == "%%" else f"{{{_short(value)}}}" if value is not None else match.group()

    return re.sub(r"%(?:[-+ #0]*[\d.*]*[a-zA-Z]|%)", put, _text(arguments[0]))

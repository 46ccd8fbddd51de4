"""The messages that report a problem, collected from the source: errors, reasons for what is left out, log lines.

Used by ``make_pages.py``. An error has to have a remedy, or its module and message have to be in `NO_REMEDY`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("imaging", "calib_store", "tasks", "flows", "deployments", "nirflow")
_CALLER: Final = "a check of the caller's arguments, which no user gives"
_CARET: Final = "the error shows the expression and marks the place"
_EACH_FRAME: Final = "the report gives reason and remedy for each frame"
#: Messages of errors without a remedy, and why none is needed. A key is a module and the message's beginning.
NO_REMEDY: Final[Mapping[tuple[str, str], str]] = {
    ("calib_store/files/objects.py", "{sha256} is not a sha256"): _CALLER,
    ("calib_store/tables/products.py", "{recipe_key} is not a recipe key"): _CALLER,
    ("calib_store/tables/products.py", "{name}: the time span"): _CALLER,
    ("calib_store/tables/products.py", "Only a {some} can be"): _CALLER,
    ("nirflow/expressions/language.py", "no value is known"): _CARET,
    ("nirflow/expressions/language.py", "{name} should be"): _CARET,
    ("nirflow/expressions/parser.py", "the expression is longer"): _CARET,
    ("tasks/stack.py", "{name} was aligned but"): _EACH_FRAME,
}

#: The argument that is the message, if it is not the first, and what it is if it is not given.
_ARGUMENT: Final[Mapping[str, tuple[int, str]]] = {
    "FrameError": (1, ""),
    "CatalogueError": (1, ""),
    "NoRowsError": (1, ""),
    "TooLargeError": (3, "it would unpack to"),
    "ExpressionError": (2, ""),
}
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
        What to do; an empty text without a remedy.
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


@cache
def messages(root: Path = ROOT) -> tuple[Message, ...]:
    """Return all messages of the packages below ``root``, by folder, module and line."""
    trees = {
        str(path.relative_to(root)): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }
    errors = _errors(trees)
    found = {one for module, tree in trees.items() for one in _of_module(module, tree, errors)}
    kept = [one for one in found if one.is_error or re.search("[a-z]", re.sub(r"{[^}]*}", "", one.text))]
    return tuple(sorted(kept, key=lambda one: (one.module.rpartition("/")[::2], one)))


def without_remedy(found: Iterable[Message]) -> list[Message]:
    """Return the errors that have neither a remedy nor a listed reason why none is needed."""
    return [one for one in found if one.is_error and not one.remedy and reason_for(one) is None]


def reason_for(one: Message) -> str | None:
    """Return why an error needs no remedy, if that is listed."""
    for (module, start), why in NO_REMEDY.items():
        if one.module == module and one.text.startswith(start):
            return why
    return None


@dataclass(frozen=True)
class _Class:
    """A class of errors: what its own constructor makes of its argument, and its remedy."""

    template: str = ""
    remedy: str = ""


def _errors(trees: Mapping[str, ast.Module]) -> dict[str, _Class]:
    """Return the classes of our errors by name."""
    classes = {
        node.name: node
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"NirflowError": _Class()}
    while True:
        more = {}
        for name, node in classes.items():
            parents = [found[_name(base)] for base in node.bases if _name(base) in found]
            if name not in found and parents:
                own = _own(node)
                more[name] = own if own.remedy else parents[0]
        if not more:
            return found
        found |= more


def _own(node: ast.ClassDef) -> _Class:
    """Return what the constructor of a class passes to its parent."""
    for constructor in (
        item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"
    ):
        for call in ast.walk(constructor):
            if isinstance(call, ast.Call) and _name(call.func) == "__init__":
                given = {keyword.arg: keyword.value for keyword in call.keywords}
                remedy = given.get("remedy")
                if remedy is not None and not (isinstance(remedy, ast.Name) and remedy.id == "remedy"):
                    template = _text(call.args[0]) if call.args and len(constructor.args.args) == 2 else ""
                    return _Class(template if "{why}" in template else "", _text(remedy))
    return _Class()


def _of_module(module: str, tree: ast.Module, errors: Mapping[str, _Class]) -> Iterator[Message]:
    tree = _Constants(tree).visit(tree)
    for node in ast.walk(tree):
        yield from _assigned(module, getattr(node, "body", None))
        if isinstance(node, ast.Call):
            yield from _of_call(module, node, errors)
        elif isinstance(node, ast.FunctionDef) and node.name == "unfit":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None and _literal(inner.value):
                    yield Message(module, inner.lineno, "reason", _text(inner.value), "")
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if _name(target) == "warnings" and isinstance(node.value, (ast.Tuple, ast.List)):
                for value in node.value.elts:
                    if _literal(value):
                        yield Message(module, value.lineno, "warning", _text(value), "")


def _assigned(module: str, body: object) -> Iterator[Message]:
    """Yield the reasons that a block assigns to a variable, with the remedy of the next statement."""
    statements = body if isinstance(body, list) else []
    for number, node in enumerate(statements):
        if not isinstance(node, ast.Assign) or _name(node.targets[0]) != "reason" or not _literal(node.value):
            continue
        then = statements[number + 1] if number + 1 < len(statements) else None
        remedy = (
            _text(then.value) if isinstance(then, ast.Assign) and _name(then.targets[0]) == "remedy" else ""
        )
        if not remedy and isinstance(then, ast.Assign) and isinstance(then.value, ast.Call):
            remedy = next((_text(k.value) for k in then.value.keywords if k.arg == "remedy"), "")
        yield Message(module, node.lineno, "reason", _text(node.value), remedy)


class _Constants(ast.NodeTransformer):
    """Put the texts of a module's constants, remedies that several messages share, in place of their names."""

    def __init__(self, tree: ast.Module) -> None:
        self._texts: dict[str, ast.expr] = {}
        for node in tree.body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target = node.targets[0]
            value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
            if (
                isinstance(target, ast.Name)
                and isinstance(value, (ast.Constant, ast.JoinedStr))
                and _literal(value)
            ):
                self._texts[target.id] = value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._texts.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def _of_call(module: str, node: ast.Call, errors: Mapping[str, _Class]) -> Iterator[Message]:
    name, owner = _name(node.func), _owner(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    remedy = _text(given["remedy"]) if "remedy" in given else ""
    if name in errors:
        at, default = _ARGUMENT.get(name, (0, ""))
        text = (
            _text(node.args[at])
            if len(node.args) > at
            else _text(given.get("problem") or given.get("message"))
        )
        text = text or default
        if "keyword" in given:
            text += f" ({_text(given['keyword'])} = {{found}}, expected {_text(given.get('expected'))})"
        if errors[name].template:
            text = errors[name].template.replace("{why}", text)
        yield Message(module, node.lineno, name, text, remedy or errors[name].remedy)
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
    return any(
        isinstance(n, ast.Constant) and isinstance(n.value, str) and " " in n.value for n in ast.walk(node)
    )


def _text(node: ast.expr | None) -> str:
    """Return an expression as the text that the user sees, with values in braces."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return re.sub(r"\s+", " ", node.value) if isinstance(node.value, str) else repr(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} / {_text(node.orelse)}"
    return f"{{{_short(node)}}}"


def _part(value: ast.expr) -> str:
    if isinstance(value, ast.FormattedValue):
        if isinstance(value.value, ast.IfExp) and all(
            isinstance(one, ast.Constant) and one.value for one in (value.value.body, value.value.orelse)
        ):
            return _text(value.value)
        return _text(value.value) if _literal(value.value) else f"{{{_short(value.value)}}}"
    return str(value.value).replace("\n", " ") if isinstance(value, ast.Constant) else _text(value)


def _short(node: ast.expr) -> str:
    """Return a short name for a value: its last attribute, the function that makes it, or its source."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call):
        inner = [
            _short(argument) for argument in node.args if isinstance(argument, (ast.Name, ast.Attribute))
        ]
        return inner[0] if inner else _name(node.func) or "..."
    if isinstance(node, ast.Subscript):
        return _short(node.value)
    return next((_short(n) for n in ast.walk(node) if isinstance(n, (ast.Name, ast.Attribute))), "...")


def _formatted(arguments: list[ast.expr]) -> str:
    """Return a log line with its arguments in place of the format's conversions."""
    values = iter(arguments[1:])

    def put(match: re.Match[str]) -> str:
        value = next(values, None)
        return (
            "%" if match.group() == "%%" else f"{{{_short(value)}}}" if value is not None else match.group()
        )

    return re.sub(r"%(?:[-+ #0]*[\d.*]*[a-zA-Z]|%)", put, _text(arguments[0]))

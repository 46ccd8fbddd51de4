"""Words and phrases that the project's texts avoid, each with what to write instead."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

#: Folders whose modules are checked.
FOLDERS = (
    "imaging",
    "calib_store",
    "tasks",
    "flows",
    "deployments",
    "nirflow",
    "benchmarks",
    "tests",
    "docs",
)
#: What to avoid and what to write instead. A key is a regular expression for complete words, in any case; a
#: space in it stands for any white space, a line break included.
AVOIDED: Mapping[str, str] = {
    "tells?|told|telling": "report, show, return, log, describe or distinguish",
    "says?|said|saying": "report, state, record, explain or print",
    "words?": "message, decision, term, name or explanation",
    "whole": "complete or intact",
    "as many as cores without": "default: one per core",
    r"without it(?=\))": "default: ...",
    "in work": "running or in progress",
    "by (?:itself|themselves)": "automatically",
    "there (?:is|are) none": "missing",
    "is no time at all": "is an invalid time",
    "makes? no sense": "is invalid, because ...",
    "anew|once more": "again, or restarted once",
    "beside": "next to, compared with, together with or in parallel with",
    "of (?:now|then|before)": "current, previous, or of that time",
    "persons?": "user or operator",
    "spoil(?:s|t|ed)?": "affect",
    "round": "around",
    "who(?:ever)? asks": "the user, or the client",
    "what is not": "everything except, or the name of the exception",
}

#: Legitimate uses of avoided words, and why they may stay. A finding counts as allowed within such a phrase.
ALLOWED: Mapping[str, str] = {
    "whole (?:steps|numbers?|seconds|days)": "integer multiples",
    "round trips?": "to a server and back",
    "(?:one more|another) round of": "a repetition",
    "not of a person": "an account's user name stands for a role; the sentence is about people",
    "for each person": "a password for every human user, as opposed to one for each role",
    "and what is not": "the ellipsis of 'what is shared, and what is not shared'",
    "what is not protected": "the limits of the protection",
    r"products\.0\.word": "a key in the manifest of an earlier version",
}

_FENCE = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)
_CODE = re.compile(r"`[^`\n]+`")
_TARGET = re.compile(r"(?<=\])\([^)\s]*\)")


@dataclass(frozen=True)
class Finding:
    """An avoided word or phrase in a text."""

    line: int
    found: str
    write: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.found!r}; write: {self.write}"


def _pattern(expression: str) -> re.Pattern[str]:
    spaced = expression.replace(" ", r"\s+")
    return re.compile(rf"\b(?:{spaced})(?!\w)", re.I)


_AVOIDED = {_pattern(expression): write for expression, write in AVOIDED.items()}
#: Most texts have nothing to avoid, which one search shows.
_ANY_AVOIDED = _pattern("|".join(AVOIDED))
_ALLOWED = {expression: _pattern(expression) for expression in ALLOWED}


def findings(text: str) -> Iterator[Finding]:
    """Yield the avoided words and phrases of a text that are no part of an allowed phrase."""
    if not _ANY_AVOIDED.search(text):
        return
    allowed = [match.span() for pattern in _ALLOWED.values() for match in pattern.finditer(text)]
    for pattern, write in _AVOIDED.items():
        for match in pattern.finditer(text):
            if not any(start <= match.start() and match.end() <= end for start, end in allowed):
                yield Finding(text.count("\n", 0, match.start()) + 1, match.group(), write)


def allowances_in(text: str) -> set[str]:
    """Return the allowed phrases (keys of `ALLOWED`) that a text uses."""
    return {expression for expression, pattern in _ALLOWED.items() if pattern.search(text)}


def prose_of(markdown: str) -> str:
    """Return the prose of a page: its text with code, output and link targets blanked and its lines kept."""
    for pattern in (_FENCE, _CODE, _TARGET):
        markdown = pattern.sub(lambda match: re.sub(r"[^\n]", "\0", match.group()), markdown)
    return markdown


def findings_in_module(source: str) -> list[Finding]:
    """Return the findings in a module's comments and in its strings with a space, in order of their lines.

    These strings are docstrings, messages and descriptions; strings without a space are mostly keys and names.
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            texts.append((node.lineno, node.value))
    found = (replace(one, line=first + one.line - 1) for first, text in texts for one in findings(text))
    return sorted(found, key=lambda one: one.line)

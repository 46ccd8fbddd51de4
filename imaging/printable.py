"""Texts from elsewhere, made safe to show: file names, header values, reasons, messages of exceptions.

The content of such a text may be chosen by someone else. Sent unchanged to a terminal, it could move the
cursor, set the window title, start a line that looks like one of nirflow's, or show a name backwards. Every
output (terminal, log, mail, page, artifact) calls `printable` in one place; other code does not call it. Any
other processing of texts before they are shown belongs here too.
"""

from __future__ import annotations

import json
import unicodedata

from imaging.redaction import without_secrets


def printable(text: str) -> str:
    r"""Return a text on one line with only visible characters.

    Letters, signs, spaces and accents of every script are kept. Control characters, line breaks, tabs,
    characters that change the direction of writing or have no width, and unassigned ones are escaped. A
    backslash is kept, so the function may be applied repeatedly. Passwords in addresses are hidden
    (`imaging.redaction`).

    Parameters
    ----------
    text
        Any text, also from bytes that are not UTF-8 (``surrogateescape``).

    Returns
    -------
    str
        ``\n``, ``\x1b`` (ASCII), ``\u202e``, ``\U000e0001`` (other characters), ``\xff`` (a byte that is not
        UTF-8).

    Examples
    --------
    >>> print(printable("red\x1b[31m.fits"))
    red\x1b[31m.fits
    """
    text = without_secrets(text)
    if text.isprintable():
        return str(text)
    return "".join(c if _seen(c) else _escaped(c) for c in text)


def printable_lines(text: str) -> str:
    """Return a text of our own in several lines (a traceback, a table) like `printable`; line breaks and tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def indented(text: str, by: str = "    ") -> str:
    """Indent all lines except the first: a line at the margin starts a new entry."""
    return text.replace("\n", f"\n{by}")


def ascii_text(text: str) -> str:
    """Return a text that FITS can store: printable ASCII, other characters escaped as in Python."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_json(text: str) -> str:
    r"""Return JSON with JSON's own escapes (``\u202e``) for what `printable` escapes: its values stay exact."""
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "".join(c if c == "\n" or _seen(c) else json.dumps(c)[1:-1] for c in text)


def _seen(c: str) -> bool:
    # For Python, the ordinary space is the only printable one.
    return c.isprintable() or unicodedata.category(c) == "Zs"


def _escaped(c: str) -> str:
    code = ord(c)
    if code < 0x80:
        return c.encode("unicode_escape").decode("ascii")
    if 0xDC80 <= code <= 0xDCFF:  # how Python represents a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""Texts of others, made safe to show: file names, header values, reasons, the messages of exceptions.

What such a text holds may be chosen by somebody else. Sent to a terminal as it is, it could move the cursor, set the
window's title, begin a line that looks like one of nirflow's, or show a name back to front. Every way out (the
terminal, a log, a mail, a page, an artifact) calls `printable` in one place; nothing calls it on the way there.
Whatever else has to be done to a text before anybody sees it belongs here too.
"""

from __future__ import annotations

import json
import unicodedata

from imaging.redaction import without_secrets


def printable(text: str) -> str:
    r"""Return a text on one line, in which every character is one that can be seen.

    Letters, signs, spaces and accents of every script stay. Escaped are control characters, line breaks and tabs,
    what turns the direction of writing or has no width, and what Unicode has not assigned. A backslash stays as it is,
    so a text may pass more than once. Passwords in addresses are hidden (`imaging.redaction`).

    Parameters
    ----------
    text
        Any text, also of bytes that are no UTF-8 (``surrogateescape``).

    Returns
    -------
    str
        ``\n``, ``\x1b`` (ASCII), ``\u202e``, ``\U000e0001`` (other characters), ``\xff`` (a byte that is no UTF-8).

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
    """Indent all lines but the first one: where a line begins at the margin, something new begins."""
    return text.replace("\n", f"\n{by}")


def ascii_text(text: str) -> str:
    """Return a text as FITS can hold it: printable ASCII, all else escaped as Python would."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_json(text: str) -> str:
    r"""Return JSON with JSON's own escapes (``\u202e``) for what `printable` escapes: its values stay exact."""
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "".join(c if c == "\n" or _seen(c) else json.dumps(c)[1:-1] for c in text)


def _seen(c: str) -> bool:
    # Python calls no space but the ordinary one printable.
    return c.isprintable() or unicodedata.category(c) == "Zs"


def _escaped(c: str) -> str:
    code = ord(c)
    if code < 0x80:
        return c.encode("unicode_escape").decode("ascii")
    if 0xDC80 <= code <= 0xDCFF:  # what Python makes of a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

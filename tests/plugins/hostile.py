"""Texts chosen to do harm when shown, and their characters that must not be printed unescaped."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

#: Sets the window's title, colours what follows, begins a line, hides and reverses text; a byte that is not
#: UTF-8.
HOSTILE = (
    "x\x1b]0;owned\x07\x1b[31m\nINJECTED\r\x9b2J\x7f\u202egnp\u2066\u200b\u2028\x85\udcff[red]t\u00e9\u6771"
)
#: The same as `printable` shows it.
SHOWN = (
    r"x\x1b]0;owned\x07\x1b[31m\nINJECTED\r\u009b2J\x7f\u202egnp\u2066\u200b\u2028\u0085\xff[red]t"
    "\u00e9\u6771"
)
_HARMFUL = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]

#: Texts with many harmful characters, from all of Unicode including lone surrogates.
texts = st.lists(
    st.sampled_from(_HARMFUL)
    | st.characters(exclude_categories=())
    | st.sampled_from(["[red]", "%s", "{0}", "\\"])
).map("".join)


def harmful(text: str, breaks: str = "\n") -> set[str]:
    """Return the characters that are invisible or control the terminal, except for our own line breaks."""
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return {c for c in text if c not in breaks and unicodedata.category(c) in kinds}

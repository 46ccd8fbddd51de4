"""The cards of a header, read once and one by one: a card that cannot be read affects no other.

Real headers contain cards that break the FITS standard: a decimal comma, NaN, a text without quotes, control
characters. What such a card means is read where it is unambiguous, and noted in the header; any other card
counts as missing. Nothing is raised here, and nothing is parsed later.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from imaging.header import COMMENTARY, Card, Header, HeaderValue
from imaging.listed import listed
from imaging.printable import ascii_text

#: Bytes of a card (FITS standard 4.0, section 3.1).
CARD: Final = 80

_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EDed][+-]?\d+)?"
#: A value with its comment as FITS prescribes: a text, a whole number, a number, a truth value, or nothing.
_VALUE: Final = rf"(?: *(?:'((?:[^']|'')*)'|([+-]?\d+)|({_NUMBER})|([TF])))? *(?:/(.*))?"
#: A complete card: keyword in the first 8 columns, "= ", value and comment.
_PRESCRIBED: Final = re.compile(rf"(?=.{{8}}= )([A-Z0-9_-]+) *= {_VALUE}", re.DOTALL)
_VALUE_ONLY: Final = re.compile(_VALUE, re.DOTALL)
_CONTINUED: Final = re.compile(r"CONTINUE +'((?:[^']|'')*)' *(?:/(.*))?", re.DOTALL)
_HIERARCH: Final = re.compile(r"HIERARCH +([^=]*[^= ]) *=(.*)", re.DOTALL)
#: Keyword and value where "=" is not in column 9, or the keyword is not in capitals.
_MISPLACED: Final = re.compile(r" *([A-Za-z][\w-]{0,7}) *=(?!=)(.*)", re.DOTALL | re.ASCII)
#: The last card of a header; what follows END in it means nothing.
END_CARD: Final = re.compile(r"END(?: {77}| {5}(?!=).*)", re.DOTALL)
_SHORT: Final = re.compile(r"[A-Z0-9_-]{1,8}")
#: A keyword without "=", and something that can only be a value.
_NO_EQUALS: Final = re.compile(
    rf"([A-Z][A-Z0-9_-]{{1,7}}) +('(?:[^']|'')*'|{_NUMBER}|[TF]) *(/.*)?", re.DOTALL
)
_COMMA: Final = re.compile(r"[+-]?\d*,\d+(?:[EDed][+-]?\d+)?")
#: A number with a fraction, and behind it a text that can only be a comment.
_WITH_REMARK: Final = re.compile(rf"({_NUMBER}) +([#!;(\[]|[A-Za-z]{{1,3}}\b|[A-Za-z]{{4}}).*", re.DOTALL)
_COMPLEX: Final = re.compile(rf"\( *{_NUMBER} *, *{_NUMBER} *\)")
_NOT_FINITE: Final = re.compile(
    r"[+-]?(?:nan(?:\(\w*\))?|inf(?:inity)?|\d\.?#(?:ind|inf|qnan|snan)\w*)", re.IGNORECASE
)
#: Control characters; padding with NUL behind a value changes nothing.
_CONTROL: Final = re.compile(r"[^\0 -~\xa0-\U0010ffff]|\0+ *[^\0 /']")
_TRUTH: Final = {".t.": True, ".f.": False, "true": True, "false": False, ".true.": True, ".false.": False,
                 "t": True, "f": False}  # fmt: skip
#: What is deleted from the bytes of a header to see whether others are left.
_PRINTABLE: Final = bytes(range(32, 127))

#: What may be unusual about a card, as noted with the keywords that it concerns.
UNREADABLE: Final = "cannot be read and counts as missing"
NOT_FINITE: Final = "is not a finite number and counts as missing"
COMMA: Final = "has a decimal comma, read as a point"
UNQUOTED: Final = "has a text without quotes"
QUOTES: Final = "has a text with a single apostrophe or without its closing quote"
NO_SLASH: Final = "has a comment without a slash"
CONTROL: Final = "contains control characters, read as spaces"
NOT_ASCII: Final = "contains characters that are not ASCII"
TWICE: Final = "appears several times with different values; the first is used"
FORM: Final = "is not written as FITS prescribes, in capitals and with = in column 9"
CONTINUED: Final = "is the continuation of a text that does not announce one"


class _Read(NamedTuple):
    """A value and its comment; the problem with it, and whether it can be used."""

    value: HeaderValue
    comment: str = ""
    problem: str = ""
    readable: bool = True


def read_cards(raw: bytes) -> Header:
    """Return the header in some bytes, up to its END card or to the end of the bytes.

    Parameters
    ----------
    raw
        Cards of 80 bytes each.

    Returns
    -------
    Header
        Every card that can be read, keywords in capitals; that of a HIERARCH card without HIERARCH. Texts have
        no trailing spaces. A keyword appears once, except COMMENT and HISTORY.
    """
    return _Reader(raw).header()


def is_valid(header: Header) -> bool:
    """Return whether every card of a header that was read is valid FITS as it is in the file."""
    return not header.notes and all(card.image for card in header.cards)


def valid_bytes(header: Header, length: int) -> bytes:
    """Return the cards of a header as valid FITS of a given length, blank cards and END included.

    A card that was repaired and does not fit into one card is left out.
    """
    images = [card.image or _image(card) for card in header.cards]
    return "".join(images)[: length - CARD].ljust(length - CARD).encode("ascii") + b"END".ljust(CARD)


def _image(card: Card) -> str:
    """Return a card as FITS prescribes it, texts in printable ASCII; empty if it does not fit."""
    if card.keyword in COMMENTARY:
        return f"{card.keyword:8}{ascii_text(str(card.value))}"[:CARD].ljust(CARD)
    match card.value:
        case None:
            value = ""
        case bool():
            value = f"{'T' if card.value else 'F':>20}"
        case str():
            value = f"'{ascii_text(card.value).replace(chr(39), chr(39) * 2):8}'"
        case _:
            value = f"{card.value!r:>20}".upper()
    name = (
        f"{card.keyword:8}= " if _SHORT.fullmatch(card.keyword) else f"HIERARCH {ascii_text(card.keyword)} = "
    )
    image = f"{name}{value}"
    return image.ljust(CARD) if len(image) <= CARD else ""


class _Reader:
    """The cards of one header, and what is unusual about them."""

    def __init__(self, raw: bytes) -> None:
        self._cards: list[Card] = []
        self._at: dict[str, int] = {}
        #: The text that continues is that of a card that was dropped, because its keyword had been there before.
        self._dropping = False
        self._unreadable: dict[str, str] = {}
        self._problems: dict[str, dict[str, None]] = {}
        clean = not raw.translate(None, _PRINTABLE)
        everything = raw.decode("ascii") if clean else ""
        continues = False
        for start in range(0, len(raw), CARD):
            if clean:
                text, valid, problem = everything[start : start + CARD], True, ""
            else:
                text, valid, problem = _decoded(raw[start : start + CARD])
            if continues and text.startswith("CONTINUE") and (more := _CONTINUED.fullmatch(text)):
                continues = self._continue(more, text, valid)
                continue
            continues = False
            parts = _PRESCRIBED.fullmatch(text)
            if parts is not None and not text.startswith("COMMENT "):
                continues = self._prescribed(parts, text, valid, problem)
            elif text.startswith(("COMMENT ", "HISTORY ", "        ")):
                if content := text[8:].rstrip():
                    self._cards.append(Card(text[:8].strip(), content, "", text if valid else ""))
            elif END_CARD.fullmatch(text):
                if text.rstrip() != "END":
                    self._note(FORM, "END")
                break
            elif text.strip():
                continues = self._unusual(text, valid, problem)

    def header(self) -> Header:
        """Return the header."""
        notes = []
        for problem, keywords in self._problems.items():
            notes.append(f"{listed(keywords)} {_plural(problem, len(keywords))}")
        unreadable = {keyword: text for keyword, text in self._unreadable.items() if keyword not in self._at}
        return Header(self._cards, unreadable=unreadable, notes=notes)

    def _prescribed(self, parts: re.Match[str], text: str, valid: bool, problem: str) -> bool:
        """Add a card as FITS prescribes it; return whether its text continues."""
        keyword = parts[1]
        read = _value(parts, 2)
        valid = valid and not _has_small_exponent(parts[4])
        return self._add(keyword, read._replace(problem=read.problem or problem), text if valid else "", text)

    def _unusual(self, text: str, valid: bool, problem: str) -> bool:
        """Add any other card; return whether its text continues."""
        if text.startswith("CONTINUE"):
            self._note(CONTINUED, "CONTINUE")
            return False
        if parts := _HIERARCH.fullmatch(text):
            keyword, rest = " ".join(parts[1].upper().split()), parts[2]
            if strict := _VALUE_ONLY.fullmatch(rest):
                read, valid = _value(strict, 1), valid and not _has_small_exponent(strict[3])
            else:
                read, valid = _lenient(rest), False
        elif text[8:10] == "= " and re.fullmatch(r"[A-Z0-9_-]+ *", text[:8]):
            keyword, read, valid = text[:8].rstrip(), _lenient(text[10:]), False
        elif parts := _MISPLACED.fullmatch(text):
            keyword, read, valid = parts[1].upper(), _lenient(parts[2]), False
            problem = problem or FORM
        elif parts := _NO_EQUALS.fullmatch(text):
            keyword, read, valid = parts[1], _lenient(parts[2] + (parts[3] or "")), False
            problem = problem or FORM
        else:
            self._note(UNREADABLE, re.sub(r"[^ -~]", "?", text[:8]).strip() or "a card")
            return False
        return self._add(keyword, read._replace(problem=read.problem or problem), text if valid else "", text)

    def _add(self, keyword: str, read: _Read, image: str, text: str) -> bool:
        if read.problem:
            self._note(read.problem, keyword)
        if not read.readable:
            self._unreadable.setdefault(keyword, text[8:].lstrip("= ").rstrip())
            return False
        continues = isinstance(read.value, str) and read.value.endswith("&")
        self._dropping = keyword in self._at and keyword not in COMMENTARY
        if self._dropping:
            if self._cards[self._at[keyword]].value != read.value:
                self._note(TWICE, keyword)
            return continues
        self._at[keyword] = len(self._cards)
        self._cards.append(Card(keyword, read.value, read.comment, image))
        return continues

    def _continue(self, more: re.Match[str], text: str, valid: bool) -> bool:
        if self._dropping:
            return more[1].rstrip(" ").endswith("&")
        last = self._cards[-1]
        value = str(last.value)[:-1] + more[1].replace("''", "'").rstrip(" ")
        comment = " ".join(part for part in (last.comment, (more[2] or "").strip()) if part)
        image = last.image + text if last.image and valid else ""
        self._cards[-1] = Card(last.keyword, value, comment, image)
        return value.endswith("&")

    def _note(self, problem: str, keyword: str) -> None:
        self._problems.setdefault(problem, {})[keyword] = None


def _decoded(raw: bytes) -> tuple[str, bool, str]:
    """Return the text of a card, whether it is valid FITS as it is stored, and the problem with it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    visible = "".join(c if c.isprintable() else " " for c in text)
    value = text.partition(" /")[0]
    if _CONTROL.search(value):
        return visible, False, CONTROL
    return visible, visible == text and text.isascii(), "" if value.isascii() else NOT_ASCII


def _value(parts: re.Match[str], first: int) -> _Read:
    """Return the value of a match of `_VALUE`, whose groups begin at ``first``."""
    text, whole, number, truth, comment = parts.group(*range(first, first + 5))
    comment = comment.strip() if comment else ""
    if text is not None:
        return _Read(text.replace("''", "'").rstrip(" "), comment)
    if whole is not None:
        return _Read(int(whole), comment)
    if number is not None:
        return _number(number, comment)
    return _Read(None if truth is None else truth == "T", comment)


def _has_small_exponent(number: str | None) -> bool:
    """Return whether a number has the letter of its exponent in lower case, which FITS does not allow."""
    return number is not None and number != number.upper()


def _number(text: str, comment: str, problem: str = "") -> _Read:
    number = float(text.upper().replace("D", "E"))
    if not math.isfinite(number):
        return _Read(None, comment, NOT_FINITE, readable=False)
    return _Read(number, comment, problem)


def _lenient(rest: str) -> _Read:
    """Read a value and its comment that are not written as FITS prescribes."""
    rest = rest.strip()
    if parts := _VALUE_ONLY.fullmatch(rest):
        return _value(parts, 1)
    if rest[:1] in ("'", '"'):
        return _quoted(rest[1:], rest[0])
    token, _, comment = (part.strip() for part in rest.partition(" /"))
    if _COMMA.fullmatch(token):
        return _number(token.replace(",", "."), comment, COMMA)
    if _COMPLEX.fullmatch(token):
        return _Read(token, comment)
    if (parts := _WITH_REMARK.fullmatch(rest)) and "." in parts[1]:
        return _number(parts[1], rest[parts.end(1) :].strip(" #!;"), NO_SLASH)
    if _NOT_FINITE.fullmatch(token):
        return _Read(None, comment, NOT_FINITE, readable=False)
    if token.lower() in _TRUTH:
        return _Read(_TRUTH[token.lower()], comment, FORM)
    if re.search(r"\w", token):
        return _Read(token, comment, UNQUOTED)
    return _Read(None, comment, UNREADABLE, readable=False)


def _quoted(rest: str, quote: str) -> _Read:
    """Read a text that follows a quote: up to a quote that a comment follows, or to the comment."""
    ends = [at for at, c in enumerate(rest) if c == quote and re.match(r" *(/|$)", rest[at + 1 :])]
    end = ends[0] if ends else -1
    if end >= 0:
        text, behind = rest[:end], rest[end + 1 :]
        comment = behind.partition("/")[2]
    elif (end := rest.rfind(f"{quote} ")) >= 0:
        return _Read(rest[:end].rstrip(), rest[end + 1 :].strip(), NO_SLASH)
    else:
        text, _, comment = rest.partition(" /")
    text = text.rstrip()
    return _Read(text.replace("''", "'"), comment.strip(), QUOTES)


def _plural(problem: str, number: int) -> str:
    """Return the text of a problem for one or several keywords."""
    if number == 1:
        return problem
    first, _, rest = problem.partition(" ")
    several = {"has": "have", "is": "are", "contains": "contain", "appears": "appear", "cannot": "cannot"}
    return f"{several[first]} {rest}".replace("counts as", "count as")

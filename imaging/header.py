"""The header of a frame or product: keywords with their values and comments, all of them valid.

Files are read by `imaging.io.cards`, which turns every card into a plain value once. What it could not read is
missing here, and named in `Header.notes`. No value is parsed later, so no later access can fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

#: A value of a card; None for a card without a value.
HeaderValue = str | int | float | bool | None
#: Keywords of cards that contain text, any number of times.
COMMENTARY: Final = frozenset(("COMMENT", "HISTORY", ""))


class Card(NamedTuple):
    """One card.

    Attributes
    ----------
    keyword, value, comment
        Its parts. A long text that continues over several cards is one value.
    image
        The card or cards as stored in a file, if they are valid FITS; empty for one that was made or repaired.
    """

    keyword: str
    value: HeaderValue
    comment: str = ""
    image: str = ""


class Header(MutableMapping[str, Any]):
    """Keywords and values in the order of the cards.

    A keyword is found whatever its case. Assigning a pair sets the value and the comment. The cards of COMMENT
    and HISTORY are one value, joined by line breaks.

    Parameters
    ----------
    cards
        Cards, or tuples of keyword, value and perhaps comment, or a mapping of keywords to values.
    unreadable
        Keywords whose card could not be read, with its text.
    notes
        What was unusual about the cards, one text for each kind of problem.

    Examples
    --------
    >>> header = Header([("EXPTIME", 120.0, "exposure")])
    >>> header["COADDS"] = (1, "number of coadds")
    >>> header["exptime"], header.comment("COADDS")
    (120.0, 'number of coadds')
    """

    def __init__(
        self,
        cards: Iterable[Card | tuple[Any, ...]] | Mapping[str, Any] = (),
        *,
        unreadable: Mapping[str, str] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        cards = cards.items() if isinstance(cards, Mapping) else cards
        self._cards: list[Card] = [one if isinstance(one, Card) else Card(*one) for one in cards]
        self.unreadable: Mapping[str, str] = unreadable or {}
        self.notes: tuple[str, ...] = tuple(notes)
        self._index()

    def _index(self) -> None:
        self._at: dict[str, int] = {}
        for at, card in enumerate(self._cards):
            self._at.setdefault(card.keyword, at)

    @property
    def cards(self) -> tuple[Card, ...]:
        """All cards in order."""
        return tuple(self._cards)

    def comment(self, keyword: str) -> str:
        """Return the comment of a keyword."""
        return self._cards[self._at[keyword.upper()]].comment

    def copy(self) -> Header:
        """Return a header with the same cards."""
        return Header(self._cards, unreadable=self.unreadable, notes=self.notes)

    def noting(self, note: str) -> Header:
        """Return the same header with another note."""
        return Header(self._cards, unreadable=self.unreadable, notes=(*self.notes, note))

    def __getitem__(self, keyword: str) -> Any:
        at = self._at.get(keyword)
        if at is None:
            at = self._at[keyword.upper()]
        card = self._cards[at]
        if card.keyword in COMMENTARY:
            return "\n".join(str(one.value) for one in self._cards if one.keyword == card.keyword)
        return card.value

    def __setitem__(self, keyword: str, value: Any) -> None:
        keyword = keyword.upper()
        content, *comments = value if isinstance(value, tuple) else (value,)
        at = self._at.get(keyword)
        if at is None or keyword in COMMENTARY:
            self._at.setdefault(keyword, len(self._cards))
            self._cards.append(Card(keyword, content, *comments))
        else:
            self._cards[at] = Card(keyword, content, *(comments or [self._cards[at].comment]))

    def __delitem__(self, keyword: str) -> None:
        keyword = keyword.upper()
        del self._at[keyword]
        self._cards = [card for card in self._cards if card.keyword != keyword]
        self._index()

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def __repr__(self) -> str:
        return f"Header({[tuple(card[:3]) for card in self._cards]!r})"


def text_of(header: Mapping[str, Any], keyword: str) -> str | None:
    """Return the text of a card that could not be read; None if it is missing or was read."""
    return header.unreadable.get(keyword) if isinstance(header, Header) else None

"""What software made a product, when, and whether the LINEAGE table in its file is its own.

Other software copies tables from its inputs to its outputs: a stack that DRAGONS made with a dark of nirflow
carries that dark's LINEAGE. The header of the table therefore names the product that wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from imaging.instruments.time_texts import parse_moment

#: Value of PROCSOFT in products of nirflow.
NIRFLOW: Final = "nirflow"
#: Keyword of the recipe key, in the primary header and in that of LINEAGE.
KEY: Final = "NFKEY"
_NAME: Final = "NFPROD"
_SUM: Final = "NFSUM"
#: Keywords with the time at which a product was made, the most specific first.
_STAMPS: Final = ("PROCDARK", "PROCFLAT", "BPMASK", "PROCBPM", "PROCSCI", "GEM-TLM")


@dataclass(frozen=True)
class Origin:
    """What a primary header states about the creation of a product.

    Attributes
    ----------
    software
        Name and version of the software; "unknown software" if the header names none.
    made_at
        When the product was made (UTC); None without a readable time in the header.
    key
        Recipe key of a product of nirflow; empty for other software, even if it kept the card of an input.
    """

    software: str
    made_at: datetime | None
    key: str

    @classmethod
    def of(cls, primary: Mapping[str, Any]) -> Self:
        """Read the origin from a primary header."""
        name = str(primary.get("PROCSOFT", "")).strip()
        key = str(primary.get(KEY, "")).strip()
        own = bool(key) and name in ("", NIRFLOW)
        name = NIRFLOW if own else name
        version = str(primary.get("PROCSVER", "")).strip()
        times = (parse_moment(primary.get(keyword)) for keyword in _STAMPS)
        return cls(
            software=f"{name} {version}".strip() if name else "unknown software",
            made_at=next((time for time in times if time is not None), None),
            key=key if own else "",
        )

    @property
    def is_own(self) -> bool:
        """Whether the product was made by nirflow."""
        return bool(self.key)


@dataclass(frozen=True)
class LineageLabel:
    """The product that a LINEAGE table belongs to, as the header of the table names it.

    Attributes
    ----------
    product, key
        File name and recipe key; both empty in older tables without a label.
    datasums
        DATASUM of each plane by EXTNAME, as nirflow wrote it.
    """

    product: str = ""
    key: str = ""
    datasums: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Self:
        """Read the label from the header of a LINEAGE table."""
        sums: dict[str, str] = {}
        while (text := header.get(f"{_SUM}{len(sums) + 1}")) is not None:
            plane, _, value = str(text).partition(" ")
            sums[plane] = value.strip()
        product, key = (str(header.get(keyword, "")).strip() for keyword in (_NAME, KEY))
        return cls(product, key, sums)

    def cards(self) -> list[tuple[str, str, str]]:
        """Return the cards of the table's header."""
        cards = [(_NAME, self.product, "Product of this lineage")]
        if self.key:
            cards.append((KEY, self.key, ""))
        sums = enumerate(self.datasums.items(), start=1)
        return cards + [
            (f"{_SUM}{n}", f"{plane} {value}", "DATASUM of a plane") for n, (plane, value) in sums
        ]

    def belongs_to(self, origin: Origin) -> bool:
        """Return whether the table is that of a product with this origin.

        A table without a label belongs to the nirflow product that contains it.
        """
        return origin.is_own and self.key in ("", origin.key)

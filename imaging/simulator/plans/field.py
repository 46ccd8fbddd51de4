"""The field that simulated nights observe."""

from __future__ import annotations

from typing import Final

#: Position of the field: the tutorial's target (RA, Dec), degrees.
FIELD: Final = (63.4917, -47.8443)
#: Its name.
TARGET: Final = "WISE J041358.14-475039.3"

"""Cone searches at VizieR: astroquery writes the question, httpx sends it within a time limit."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import urlsplit

import httpx

from calib_store.tables.services.catalogue_answers import LARGEST_ANSWER, Question
from imaging.errors import CatalogueError

#: Attempts to reach a server that is down or overloaded, and the pause between them, s.
_ATTEMPTS: Final = 3
_PAUSE: Final = 2.0
_PATH: Final = "/viz-bin/votable"
_ANOTHER: Final = (
    "Reduce again later, name a mirror in catalogue.server, or use a local file: --catalogue PATH. Without a "
    "catalogue: --catalogue none"
)


def ask_vizier(question: Question, *, server: str | None = None, timeout: float = 60.0) -> bytes:
    """Ask VizieR for all columns of the stars of a region.

    Parameters
    ----------
    question
        Table and region.
    server
        Address of the server; None: that of astroquery's configuration.
    timeout
        Longest time for the answer, s, all attempts together.

    Returns
    -------
    bytes
        The answer, a VOTable; its content is not checked.

    Raises
    ------
    CatalogueError
        If astroquery is missing, the server cannot be reached or answers with an error, too slowly or too much.
    """
    payload, usual = _written(question)
    address = (server or f"https://{usual}").rstrip("/")
    if urlsplit(address).scheme not in ("http", "https"):
        raise CatalogueError(
            question.label, f"the server {address} is not an address that begins with https://",
            remedy="Correct catalogue.server.",
        )  # fmt: skip
    deadline = time.monotonic() + timeout
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _sent(address + _PATH, payload, deadline, question)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            final = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if final or attempt == _ATTEMPTS or time.monotonic() + _PAUSE >= deadline:
                raise CatalogueError(
                    question.label, f"the service at {address} does not answer: {_reason(error, timeout)}",
                    remedy=_ANOTHER,
                ) from error  # fmt: skip
            time.sleep(_PAUSE)
    raise AssertionError("unreachable")


def _written(question: Question) -> tuple[str, str]:
    """Return the question in VizieR's language, and the server of astroquery's configuration."""
    try:
        from astroquery.vizier import VizierClass, conf
    except ImportError as error:
        raise CatalogueError(
            question.label, "services are asked with astroquery, which is not installed",
            remedy="pip install 'nirflow[catalogues]', or use a local file: --catalogue PATH",
        ) from error  # fmt: skip
    from astropy import units
    from astropy.coordinates import SkyCoord

    centre = SkyCoord(question.ra * units.deg, question.dec * units.deg, frame="icrs")
    vizier = VizierClass(columns=["**"], row_limit=-1)
    payload = vizier.query_region_async(
        centre,
        radius=question.radius * units.deg,
        catalog=question.catalogue,
        frame="icrs",
        get_query_payload=True,
    )
    return payload, conf.server


def _sent(address: str, payload: str, deadline: float, question: Question) -> bytes:
    left = max(deadline - time.monotonic(), 0.001)
    content = bytearray()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with (
        httpx.Client(timeout=left, follow_redirects=True) as client,
        client.stream("POST", address, content=payload.encode(), headers=headers) as response,
    ):
        response.raise_for_status()
        for part in response.iter_bytes():
            content += part
            if len(content) > LARGEST_ANSWER:
                raise CatalogueError(
                    question.label, f"the answer has more than {LARGEST_ANSWER / 1024**2:.0f} MB",
                    remedy="Use a local file of this catalogue: --catalogue PATH",
                )  # fmt: skip
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer is not complete within the time limit")
    return bytes(content)


def _reason(error: httpx.HTTPError | httpx.InvalidURL, timeout: float) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, httpx.TimeoutException):
        return f"nothing complete within {timeout:g} s"
    return str(error) or type(error).__name__

"""The reference stars of a field, by the parameters of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Final

from calib_store.store import Store
from calib_store.tables.services.catalogue_answers import Answer, Question
from imaging.errors import CatalogueError
from imaging.io.tables.table_file import NoRowsError, table_of
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.interpret import Region
from imaging.reference_catalogue.known_surveys import survey_named
from imaging.reference_catalogue.read_catalogue import answered_catalogue, read_catalogue
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue
from tasks.reference_catalogue.vizier import ask_vizier
from tasks.support.workspace import Workspace

#: What an answer has to cover beyond a field, and what is asked for beyond it, arcmin: stars move, and the next field
#: of the same target is not exactly the same.
_NEEDED: Final = 1.0
_ASKED: Final = 5.0
#: Asks a service: question, server, time limit.
Ask = Callable[..., bytes]


def find_catalogue(
    workspace: Workspace, parameters: CatalogueParameters, region: Region
) -> ReferenceCatalogue | None:
    """Return the reference stars of a region by the catalogue of a run; None if it has none.

    A service is asked only if the store has no answer that covers the region, and its answer is kept there. With
    ``as_of``, only what the store knew at that time is used.

    Parameters
    ----------
    workspace
        The run's, for its store and ``as_of``.
    parameters
        The catalogue.
    region
        Region and epoch of the observation.

    Raises
    ------
    CatalogueError
        If the catalogue cannot be used. The rest of a reduction does not depend on it.
    StoreError
        If the record of an answer is damaged.
    """
    if not parameters.wanted:
        return None
    if parameters.service is None:
        return read_catalogue(parameters, region)
    return from_service(workspace.store(), parameters, region, as_of=workspace.as_of)


def from_service(
    store: Store,
    parameters: CatalogueParameters,
    region: Region,
    *,
    as_of: datetime | None = None,
    ask: Ask = ask_vizier,
) -> ReferenceCatalogue:
    """Return the reference stars of a region by a service, or by its answer in the store; see `find_catalogue`."""
    assert parameters.service is not None
    service, wanted = parameters.service
    survey = survey_named(wanted)
    table = survey.vizier if survey is not None else wanted
    needed = Question(service, table, region.ra % 360.0, region.dec, region.radius + _NEEDED / 60.0)
    answer = _answer(store, needed, parameters, region, as_of=as_of, ask=ask)
    if survey is not None and parameters.survey is None:
        parameters = parameters.model_copy(update={"survey": survey.name})
    return answered_catalogue(answer.content, parameters, region, origin=f"{service}:{table}")


def _answer(
    store: Store,
    needed: Question,
    parameters: CatalogueParameters,
    region: Region,
    *,
    as_of: datetime | None,
    ask: Ask,
) -> Answer:
    """Return the earliest answer that covers the region; ask the service if the store has no such answer."""
    day = parameters.asked_since
    since = datetime.combine(day, time(), UTC) if day is not None else None
    found = store.answers.find(needed, since=since, as_of=as_of)
    if found is not None:
        return found
    if as_of is not None:
        raise CatalogueError(
            needed.label,
            f"the store had no answer of the service on {as_of:%Y-%m-%d %H:%M}, and with --as-of none is asked for",
            remedy="Reduce without --as-of, or use a local file: --catalogue PATH",
        )  # fmt: skip
    radius = math.ceil(region.radius * 60.0 + _ASKED) / 60.0
    asked = Question(needed.service, needed.catalogue, needed.ra, needed.dec, radius)
    with store.answers.asking(asked):
        found = store.answers.find(needed, since=since)
        if found is not None:  # another process has asked meanwhile
            return found
        content = ask(asked, server=parameters.server, timeout=parameters.timeout)
        _check(content, asked)
        return store.answers.add(asked, content)


def _check(content: bytes, asked: Question) -> None:
    """Refuse all but complete tables, so that nothing else is kept; a table without rows is an answer too."""
    try:
        table_of(content, asked.label)
    except NoRowsError:
        pass
    except CatalogueError as error:
        raise CatalogueError(
            asked.label, f"the answer of the service {error.problem}",
            remedy="Reduce again later, or use a local file: --catalogue PATH",
        ) from error  # fmt: skip

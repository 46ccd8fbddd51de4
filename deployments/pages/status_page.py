"""The page of the status: the parts of the service, and what arrives, runs and waits, as in `nirflow status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployments.settings.all_settings import Settings
from deployments.status.overview import overview
from deployments.status.supervisor_state import read_state
from deployments.status.wording import lines, restarts

if TYPE_CHECKING:
    from jinja2 import Environment

    from deployments.prefect_api.rest import Rest


class StatusPage:
    """The page, made for each request.

    Parameters
    ----------
    settings
        All settings.
    rest
        The Prefect server that serves the page.
    environment
        The templates.
    """

    def __init__(self, settings: Settings, rest: Rest, environment: Environment) -> None:
        self._settings, self._rest, self._environment = settings, rest, environment

    def page(self) -> str:
        """Return the page. What cannot be asked is stated on it."""
        state = read_state(self._settings)
        state = state if state is not None and state.alive else None
        found = overview(self._settings, self._rest, watched=state.watched if state is not None else None)
        waiting = lines(found, str(self._settings.data_dir.expanduser()))
        if state is not None:
            waiting = (*restarts(state), *waiting)
        return self._environment.get_template("status.html").render(state=state, lines=waiting, at=found.at)

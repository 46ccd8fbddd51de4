"""Checks of the bodies of an operator's requests: each body is rebuilt from the few fields that it may contain.

Anything else that Prefect would interpret in such a body is refused: job variables, which name a command; the data of a
state, which a client unpickles; templates and references to blocks in parameters. Only fields listed here get through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

#: Makes the body to forward from the body received and the user's name.
Check = Callable[[Any, str], Any]

#: Label of a flow run with the name of the user who started it; for an operator's run only the server can set it.
USER_LABEL: Final = "nirflow.user"

#: Flows whose runs an operator cannot retry: they act in the name of the user who started the run.
ONCE: Final = frozenset({"decide"})
#: Prefect's name for the state of a run that is being retried.
AWAITING_RETRY: Final = "AwaitingRetry"
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})

_LONGEST_NAME: Final = 200
_MOST_TAGS: Final = 20
#: Key with which Prefect's forms wrap a value: its kind, next to the value itself or its JSON.
_KIND: Final = "__prefect_kind"
_DEEPEST: Final = 30


class RefusedError(Exception):
    """A body that contains more than an operator may send; the message names what."""


class _Removed:
    """A field of a form that was left empty."""


def question(body: Any, user: str) -> Any:
    """Return the body of a query unchanged."""
    return body


def nothing(body: Any, user: str) -> None:
    """Refuse any body that is not empty."""
    if body not in (None, {}):
        raise RefusedError("This request takes no body.")


def pause(body: Any, user: str) -> dict[str, bool]:
    """Allow a deployment to be paused or resumed, but not changed."""
    return {"paused": _flag(_filled(body, {"paused"}), "paused")}


def switch(body: Any, user: str) -> dict[str, bool]:
    """Allow a schedule to be switched on or off, but not changed; the UI sends the unchanged schedule too."""
    return {"active": _flag(_filled(body, {"active", "schedule"}), "active")}


def cancel_or_retry(body: Any, user: str) -> dict[str, Any]:
    """Allow a run to be cancelled or retried; Prefect's rules for changes of state cannot be overridden."""
    state = _filled(_filled(body, {"state", "force"}).get("state"), {"type", "name", "message"})
    kind, name = str(state.get("type")).upper(), state.get("name")
    if kind == "CANCELLING" and name in (None, "Cancelling"):
        allowed = {"type": "CANCELLING", "name": "Cancelling", "message": f"Cancelled by {user}"}
    elif kind == "SCHEDULED" and name == AWAITING_RETRY:
        allowed = {"type": "SCHEDULED", "name": AWAITING_RETRY, "message": f"Retried by {user}"}
    else:
        raise RefusedError("An operator can cancel or retry a run, but not put it into any other state.")
    return {"state": allowed, "force": False}


def is_retry(made: Any) -> bool:
    """Return whether a checked body retries a run."""
    state = made.get("state") if isinstance(made, dict) else None
    return isinstance(state, dict) and state.get("name") == AWAITING_RETRY


def check_retry(run: Mapping[str, Any] | None, flow: Mapping[str, Any] | None) -> None:
    """Refuse to retry a run unless it has begun and ended, and its flow may run more than once.

    A run that has not begun is still pending, or was cancelled by the user who started it: a retry would act in that
    user's name for the first time.

    Parameters
    ----------
    run, flow
        Prefect's records of them; None if missing.

    Raises
    ------
    RefusedError
        If the run may not be retried.
    """
    if run is None or flow is None:
        raise RefusedError("The run to retry does not exist on the server.")
    if flow["name"] in ONCE:
        raise RefusedError(f"An operator cannot retry a run of {flow['name']}: start a new one.")
    if run["state_type"] not in _ENDED:
        raise RefusedError("An operator can retry a run only after it has ended.")
    if run["run_count"] < 1:
        raise RefusedError("An operator cannot retry a run that never began: start a new one.")


def start(body: Any, user: str) -> dict[str, Any]:
    """Allow a run of an unchanged deployment, with parameters that its form allows; the UI sends the queue too."""
    given = _filled(
        {} if body is None else body,
        {
            "parameters",
            "name",
            "tags",
            "state",
            "idempotency_key",
            "enforce_parameter_schema",
            "work_queue_name",
        },
    )
    if given.get("enforce_parameter_schema") is False:
        raise RefusedError("An operator cannot switch off the validation of parameters.")
    made: dict[str, Any] = {
        "parameters": plain_parameters(given.get("parameters") or {}),
        "enforce_parameter_schema": True,
        "labels": {USER_LABEL: user},
    }
    if "name" in given:
        made["name"] = _short_text(given["name"], "name")
    if "tags" in given:
        tags = given["tags"]
        if not isinstance(tags, list) or len(tags) > _MOST_TAGS:
            raise RefusedError(f"Tags must be a list of at most {_MOST_TAGS}.")
        made["tags"] = [_short_text(tag, "tags") for tag in tags]
    if "idempotency_key" in given:
        # Made unique to the user: with the key of a scheduled run, this run would take its place.
        made["idempotency_key"] = f"{user}: {_short_text(given['idempotency_key'], 'idempotency_key')}"
    if "state" in given:
        made["state"] = _scheduled(given["state"])
    return made


def plain_parameters(parameters: Any) -> dict[str, Any]:
    """Return parameters with the values of a form unwrapped; refuse anything that Prefect would look up or render.

    Raises
    ------
    RefusedError
        If they contain a template, a variable, or a reference to a block.
    """
    if not isinstance(parameters, dict):
        raise RefusedError("Parameters are a table.")
    plain = _plain(parameters, 0)
    if not isinstance(plain, dict):
        raise RefusedError("Parameters are a table.")
    return plain


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise RefusedError("Parameters are nested too deeply.")
    if isinstance(value, list):
        inner = [_plain(one, depth + 1) for one in value]
        return [one for one in inner if not isinstance(one, _Removed)]
    if not isinstance(value, dict):
        return value
    if _KIND in value:
        return _unwrapped(value, depth)
    for name in value:
        if name.startswith(("$", "__")):
            raise RefusedError(f"An operator cannot give {name!r} in parameters: Prefect would replace it.")
    pairs = ((name, _plain(one, depth + 1)) for name, one in value.items())
    return {name: one for name, one in pairs if not isinstance(one, _Removed)}


def _unwrapped(value: Mapping[str, Any], depth: int) -> Any:
    kind = value[_KIND]
    if set(value) - {_KIND, "value"} or kind not in ("none", "json", None):
        raise RefusedError("An operator cannot give templates and variables as parameters.")
    if "value" not in value:
        return _Removed()
    inner = value["value"]
    if kind == "json" and isinstance(inner, str):
        inner = strict_json(inner)
    return _plain(inner, depth + 1)


def strict_json(text: str) -> Any:
    """Decode JSON that is unambiguous: no duplicate names in a table, and no NaN or infinity.

    Raises
    ------
    RefusedError
        If it is ambiguous or no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_table, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise RefusedError("The JSON is nested too deeply.") from None
    except ValueError as error:
        raise RefusedError(f"This is not JSON ({str(error)[:100]}).") from None


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice in a table")
    return table


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _scheduled(state: Any) -> dict[str, Any]:
    given = _filled(state, {"type", "name", "message", "state_details"})
    if str(given.get("type")).upper() != "SCHEDULED" or given.get("name", "Scheduled") != "Scheduled":
        raise RefusedError("An operator's run must begin in the state Scheduled.")
    made: dict[str, Any] = {"type": "SCHEDULED"}
    if "message" in given:
        made["message"] = _short_text(given["message"], "message")
    details = _filled(given.get("state_details") or {}, {"scheduled_time"})
    if "scheduled_time" in details:
        try:
            when = datetime.fromisoformat(details["scheduled_time"])
        except (TypeError, ValueError):
            raise RefusedError("The scheduled time is invalid.") from None
        made["state_details"] = {"scheduled_time": when.isoformat()}
    return made


def _filled(body: Any, names: Collection[str]) -> dict[str, Any]:
    """Return the fields of a table that are filled in; refuse those not among ``names``."""
    if not isinstance(body, dict):
        raise RefusedError("The body is not a table.")
    filled = {name: value for name, value in body.items() if not is_blank(value)}
    if more := [name for name in filled if name not in names]:
        raise RefusedError(f"An operator cannot set {', '.join(more)[:_LONGEST_NAME]}.")
    return filled


def is_blank(value: Any) -> bool:
    """Return whether a value is empty: a form sends its empty fields too."""
    if isinstance(value, dict):
        return all(one is False or is_blank(one) for one in value.values())
    return value is None or value == []


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise RefusedError(f"{name} must be true or false.")
    return value


def _short_text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise RefusedError(f"{name} must be a text of at most {_LONGEST_NAME} printable characters.")
    return value

"""What an operator's requests may hold: each is made again of the few things that it may say.

Whatever else Prefect understands in such a body (job variables, which name a command; the data of a state, which a
client unpickles; templates and references to blocks in parameters) is refused, and what is left out by name here
cannot get through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

#: Makes the body that goes on of the body that came, for the user who asks.
Check = Callable[[Any, str], Any]

#: Label of a flow run that names the user who asked for it; nobody but the server can set it for an operator's run.
USER_LABEL: Final = "nirflow.user"

#: Flows whose runs an operator cannot try again: they act in the name of who asked for the run first.
ONCE: Final = frozenset({"decide"})
#: Prefect's name for the state of a run that is tried again.
AWAITING_RETRY: Final = "AwaitingRetry"
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})

_LONGEST_NAME: Final = 200
_MOST_TAGS: Final = 20
#: How Prefect's forms wrap a value: its kind, and then the value itself or its JSON.
_KIND: Final = "__prefect_kind"
_DEEPEST: Final = 30


class RefusedError(Exception):
    """A body that asks for more than an operator may have; tells what."""


class _Removed:
    """A field of a form that was left empty."""


def question(body: Any, user: str) -> Any:
    """Let a question pass as it is."""
    return body


def nothing(body: Any, user: str) -> None:
    """Refuse any body but an empty one."""
    if body not in (None, {}):
        raise RefusedError("This request takes no body.")


def pause(body: Any, user: str) -> dict[str, bool]:
    """Let a deployment be paused or resumed, and nothing of it be changed."""
    return {"paused": _flag(_filled(body, {"paused"}), "paused")}


def switch(body: Any, user: str) -> dict[str, bool]:
    """Let a schedule be switched on or off, and nothing of it be changed; the UI gives it as it is."""
    return {"active": _flag(_filled(body, {"active", "schedule"}), "active")}


def cancel_or_retry(body: Any, user: str) -> dict[str, Any]:
    """Let a run be cancelled, or tried again; by the rules for changes of state, which cannot be overruled."""
    state = _filled(_filled(body, {"state", "force"}).get("state"), {"type", "name", "message"})
    kind, name = str(state.get("type")).upper(), state.get("name")
    if kind == "CANCELLING" and name in (None, "Cancelling"):
        allowed = {"type": "CANCELLING", "name": "Cancelling", "message": f"Cancelled by {user}"}
    elif kind == "SCHEDULED" and name == AWAITING_RETRY:
        allowed = {"type": "SCHEDULED", "name": AWAITING_RETRY, "message": f"Retried by {user}"}
    else:
        raise RefusedError("An operator can cancel and retry a run, and put it into no other state.")
    return {"state": allowed, "force": False}


def is_retry(made: Any) -> bool:
    """Whether a body that may go on has a run tried again."""
    state = made.get("state") if isinstance(made, dict) else None
    return isinstance(state, dict) and state.get("name") == AWAITING_RETRY


def check_retry(run: Mapping[str, Any] | None, flow: Mapping[str, Any] | None) -> None:
    """Let a run be tried again only where it has begun and ended, and is of a flow that may run more than once.

    A run that has not begun is still to come, or was cancelled by who asked for it: it would act in that user's name
    for the first time.

    Parameters
    ----------
    run, flow
        As Prefect has them; None where it has none.

    Raises
    ------
    RefusedError
        Where the run may not be tried again.
    """
    if run is None or flow is None:
        raise RefusedError("The server has no such run that could be tried again.")
    if flow["name"] in ONCE:
        raise RefusedError(f"An operator cannot retry a run of {flow['name']}: start a new one.")
    if run["state_type"] not in _ENDED:
        raise RefusedError("An operator can retry a run only after it has ended.")
    if run["run_count"] < 1:
        raise RefusedError("An operator cannot retry a run that never began: start a new one.")


def start(body: Any, user: str) -> dict[str, Any]:
    """Let a deployment be run as it is, with parameters that its form allows; the UI gives its queue as it is."""
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
        raise RefusedError("An operator cannot switch off the check of the parameters.")
    made: dict[str, Any] = {
        "parameters": plain_parameters(given.get("parameters") or {}),
        "enforce_parameter_schema": True,
        "labels": {USER_LABEL: user},
    }
    if "name" in given:
        made["name"] = _word(given["name"], "name")
    if "tags" in given:
        tags = given["tags"]
        if not isinstance(tags, list) or len(tags) > _MOST_TAGS:
            raise RefusedError(f"Tags are a list of at most {_MOST_TAGS}.")
        made["tags"] = [_word(tag, "tags") for tag in tags]
    if "idempotency_key" in given:
        # Of its own: with the key of a scheduled run another would take that one's place.
        made["idempotency_key"] = f"{user}: {_word(given['idempotency_key'], 'idempotency_key')}"
    if "state" in given:
        made["state"] = _scheduled(given["state"])
    return made


def plain_parameters(parameters: Any) -> dict[str, Any]:
    """Parameters with the values of a form unwrapped, and without anything that Prefect would look up or render.

    Raises
    ------
    RefusedError
        Where there is a template, a variable, or a reference to a block.
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
            raise RefusedError(
                f"An operator cannot give {name!r} in parameters: it stands for something else."
            )
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
    """JSON that has one meaning: no name twice in a table, no number that is none.

    Raises
    ------
    RefusedError
        Where it is not.
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
        raise ValueError("a name is twice in a table")
    return table


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _scheduled(state: Any) -> dict[str, Any]:
    given = _filled(state, {"type", "name", "message", "state_details"})
    if str(given.get("type")).upper() != "SCHEDULED" or given.get("name", "Scheduled") != "Scheduled":
        raise RefusedError("An operator's run begins as scheduled.")
    made: dict[str, Any] = {"type": "SCHEDULED"}
    if "message" in given:
        made["message"] = _word(given["message"], "message")
    details = _filled(given.get("state_details") or {}, {"scheduled_time"})
    if "scheduled_time" in details:
        try:
            when = datetime.fromisoformat(details["scheduled_time"])
        except (TypeError, ValueError):
            raise RefusedError("The scheduled time is no time.") from None
        made["state_details"] = {"scheduled_time": when.isoformat()}
    return made


def _filled(body: Any, names: Collection[str]) -> dict[str, Any]:
    """What of a table is filled in; refused where that is anything but ``names``."""
    if not isinstance(body, dict):
        raise RefusedError("The body is no table.")
    filled = {name: value for name, value in body.items() if not is_blank(value)}
    if more := [name for name in filled if name not in names]:
        raise RefusedError(f"An operator cannot set {', '.join(more)[:_LONGEST_NAME]}.")
    return filled


def is_blank(value: Any) -> bool:
    """Whether a value says nothing: a form gives its empty fields too."""
    if isinstance(value, dict):
        return all(one is False or is_blank(one) for one in value.values())
    return value is None or value == []


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise RefusedError(f"An operator can set {name} to true or false.")
    return value


def _word(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise RefusedError(f"{name} is a text of at most {_LONGEST_NAME} ordinary characters.")
    return value

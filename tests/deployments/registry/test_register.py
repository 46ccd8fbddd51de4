"""The process that registers everything: what it prints when it cannot."""

from __future__ import annotations

import io

import pytest

from calib_store.store import Store
from deployments.registry.register import main
from imaging.errors import NirflowError


def test_a_known_problem_is_a_message_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object, **__: object) -> Store:
        raise NirflowError("The database refused the password.", remedy="Correct NIRFLOW_DATABASE_URL.")

    monkeypatch.setattr(Store, "open", refused)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("deployments.registry.register.make_output_printable", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == "The database refused the password. Correct NIRFLOW_DATABASE_URL."

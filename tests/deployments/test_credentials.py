"""Whose password it is, and that a password that was made or withdrawn holds at once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deployments.credentials import Credentials, Identity, file_of
from deployments.policy import Role


def keep(folder: Path, role: Role, text: str, mode: int = 0o600) -> Path:
    aside, path = folder / "aside", file_of(folder, role)
    aside.write_text(text + "\n")
    aside.chmod(mode)
    aside.replace(path)
    return path


def role_of(who: Identity | None) -> Role | None:
    return who.role if who is not None else None


def test_each_role_is_known_by_its_own(tmp_path: Path) -> None:
    keep(tmp_path, Role.VIEWER, "eve:looks")
    known = Credentials("nirflow:own", {Role.OPERATOR: "ana:operates: all"}, tmp_path)
    for text, role, user in (
        ("nirflow:own", Role.OWNER, "nirflow"),
        ("ana:operates: all", Role.OPERATOR, "ana"),
        ("eve:looks", Role.VIEWER, "eve"),
    ):
        who = known.identify(text)
        assert who is not None
        assert (who.role, who.user) == (role, user)
        assert known.holds(who)
    for text in ("", ":", "nirflow", "nirflow:own ", "nirflow:looks", "eve:own", "\udc80:x"):
        assert known.identify(text) is None


def test_one_that_is_made_or_withdrawn_later_holds_at_once(tmp_path: Path) -> None:
    known = Credentials("nirflow:own", {}, tmp_path)
    assert known.identify("eve:looks") is None
    path = keep(tmp_path, Role.VIEWER, "eve:looks")
    who = known.identify("eve:looks")
    assert who is not None
    keep(tmp_path, Role.VIEWER, "eve:other")
    assert known.identify("eve:looks") is None
    assert not known.holds(who)
    assert role_of(known.identify("eve:other")) is Role.VIEWER
    path.unlink()
    assert known.identify("eve:other") is None


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_the_owner_s_password_is_that_of_no_other_role(
    tmp_path: Path, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path, role, "nirflow:own")
    known = Credentials("nirflow:own", {}, tmp_path)
    with caplog.at_level(logging.ERROR):
        assert role_of(known.identify("nirflow:own")) is Role.OWNER
    assert f"The {role.label} has the password of another role" in caplog.text
    assert "nirflow:own" not in caplog.text


def test_one_password_of_two_roles_lets_nobody_in(tmp_path: Path) -> None:
    keep(tmp_path, Role.VIEWER, "ana:both")
    known = Credentials("nirflow:own", {Role.OPERATOR: "ana:both"}, tmp_path)
    assert known.identify("ana:both") is None
    keep(tmp_path, Role.VIEWER, "eve:looks")
    assert role_of(known.identify("ana:both")) is Role.OPERATOR


def test_a_file_that_others_may_use_lets_nobody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(tmp_path, Role.OPERATOR, "ana:operates", mode=0o644)
    known = Credentials("nirflow:own", {}, tmp_path)
    with caplog.at_level(logging.ERROR):
        assert known.identify("ana:operates") is None
        assert known.identify("ana:operates") is None
    assert caplog.text.count("The operator cannot log in") == 1
    file_of(tmp_path, Role.OPERATOR).chmod(0o600)
    assert role_of(known.identify("ana:operates")) is Role.OPERATOR


def test_a_link_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("eve:looks\n")
    (tmp_path / "elsewhere").chmod(0o600)
    file_of(tmp_path, Role.VIEWER).symlink_to(tmp_path / "elsewhere")
    assert Credentials("nirflow:own", {}, tmp_path).identify("eve:looks") is None

"""Identification by password, and the immediate effect of new and revoked passwords."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.access import password
from deployments.access.credentials import Credentials, Identity, ensure, file_of, from_settings, revoke
from deployments.access.password import PasswordFileError
from deployments.access.policy import Role
from deployments.prefect_server.server import ServerError, check_password, with_password
from deployments.settings.server_settings import ROLES, ServerSettings, server_environment


def keep(folder: Path, role: Role, text: str, mode: int = 0o600) -> Path:
    aside, path = folder / "aside", file_of(folder, role)
    aside.write_text(text + "\n")
    aside.chmod(mode)
    aside.replace(path)
    return path


def role_of(identity: Identity | None) -> Role | None:
    return identity.role if identity is not None else None


def test_each_role_is_identified_by_its_password(tmp_path: Path) -> None:
    keep(tmp_path, Role.VIEWER, "eve:looks")
    known = Credentials("nirflow:own", {Role.OPERATOR: "ana:operates: all"}, tmp_path)
    for text, role, user in (
        ("nirflow:own", Role.OWNER, "nirflow"),
        ("ana:operates: all", Role.OPERATOR, "ana"),
        ("eve:looks", Role.VIEWER, "eve"),
    ):
        identity = known.identify(text)
        assert identity is not None
        assert (identity.role, identity.user) == (role, user)
        assert known.holds(identity)
    for text in ("", ":", "nirflow", "nirflow:own ", "nirflow:looks", "eve:own", "\udc80:x"):
        assert known.identify(text) is None


def test_a_new_or_revoked_password_takes_effect_at_once(tmp_path: Path) -> None:
    known = Credentials("nirflow:own", {}, tmp_path)
    assert known.identify("eve:looks") is None
    path = keep(tmp_path, Role.VIEWER, "eve:looks")
    identity = known.identify("eve:looks")
    assert identity is not None
    keep(tmp_path, Role.VIEWER, "eve:other")
    assert known.identify("eve:looks") is None
    assert not known.holds(identity)
    assert role_of(known.identify("eve:other")) is Role.VIEWER
    path.unlink()
    assert known.identify("eve:other") is None


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_the_password_of_the_owner_is_for_no_other_role(
    tmp_path: Path, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path, role, "nirflow:own")
    known = Credentials("nirflow:own", {}, tmp_path)
    with caplog.at_level(logging.ERROR):
        assert role_of(known.identify("nirflow:own")) is Role.OWNER
    assert f"The {role.label} has the same user name as another role" in caplog.text
    assert "nirflow:own" not in caplog.text


def test_a_password_of_two_roles_is_accepted_for_neither(tmp_path: Path) -> None:
    keep(tmp_path, Role.VIEWER, "ana:both")
    known = Credentials("nirflow:own", {Role.OPERATOR: "ana:both"}, tmp_path)
    assert known.identify("ana:both") is None
    keep(tmp_path, Role.VIEWER, "eve:looks")
    assert role_of(known.identify("ana:both")) is Role.OPERATOR


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
@pytest.mark.parametrize("user", ["nirflow", "Nirflow"])
def test_no_other_role_can_have_the_user_name_of_the_owner(tmp_path: Path, role: Role, user: str) -> None:
    """A decision of an operator of that name would be logged as the owner's."""
    known = Credentials("nirflow:own", {role: f"{user}:other"}, tmp_path)
    assert known.identify(f"{user}:other") is None
    assert role_of(known.identify("nirflow:own")) is Role.OWNER


def test_a_user_name_of_two_roles_is_accepted_for_neither(tmp_path: Path) -> None:
    known = Credentials("nirflow:own", {Role.OPERATOR: "ana:operates", Role.VIEWER: "ana:looks"}, tmp_path)
    assert known.identify("ana:operates") is None
    assert known.identify("ana:looks") is None


def test_no_password_is_created_for_a_role_with_the_name_of_another(tmp_path: Path) -> None:
    password.ensure(tmp_path, ServerSettings())
    taken = ServerSettings(operator_auth=SecretStr("nirflow:other"), viewer_auth=SecretStr("operator:looks"))
    with pytest.raises(
        PasswordFileError, match="The operator and the owner have the same user name, 'nirflow'"
    ):
        ensure(tmp_path, taken, Role.OPERATOR)
    with pytest.raises(ServerError, match="same user name"):
        with_password(taken, tmp_path)
    viewer = ServerSettings(viewer_auth=SecretStr("operator:looks"))
    with pytest.raises(
        PasswordFileError, match="The operator and the viewer have the same user name, 'operator'"
    ):
        ensure(tmp_path, viewer, Role.OPERATOR)
    assert not file_of(tmp_path / "prefect", Role.OPERATOR).exists()


def test_a_file_that_others_may_use_is_not_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(tmp_path, Role.OPERATOR, "ana:operates", mode=0o644)
    known = Credentials("nirflow:own", {}, tmp_path)
    with caplog.at_level(logging.ERROR):
        assert known.identify("ana:operates") is None
        assert known.identify("ana:operates") is None
    assert caplog.text.count("The operator cannot log in") == 1
    file_of(tmp_path, Role.OPERATOR).chmod(0o600)
    assert role_of(known.identify("ana:operates")) is Role.OPERATOR


def test_a_symbolic_link_is_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("eve:looks\n")
    (tmp_path / "elsewhere").chmod(0o600)
    file_of(tmp_path, Role.VIEWER).symlink_to(tmp_path / "elsewhere")
    assert Credentials("nirflow:own", {}, tmp_path).identify("eve:looks") is None


# Created, revoked, and from the settings


def test_a_password_is_created_once_for_this_account_only(tmp_path: Path) -> None:
    made = {role: ensure(tmp_path, ServerSettings(), role) for role in Role}
    assert len(set(made.values())) == 3
    assert made[Role.VIEWER].startswith("viewer:")
    assert made[Role.OPERATOR].startswith("operator:")
    assert {role: ensure(tmp_path, ServerSettings(), role) for role in Role} == made
    known = Credentials(made[Role.OWNER], {}, tmp_path / "prefect")
    for role, text in made.items():
        assert role_of(known.identify(text)) is role
        assert file_of(tmp_path / "prefect", role).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "prefect").stat().st_mode & 0o777 == 0o700
    assert file_of(tmp_path / "prefect", Role.OWNER) == password.file_of(tmp_path)


def test_a_revoked_password_is_replaced_by_a_different_one(tmp_path: Path) -> None:
    first = ensure(tmp_path, ServerSettings(), Role.VIEWER)
    assert revoke(tmp_path, ServerSettings(), Role.VIEWER)
    assert not revoke(tmp_path, ServerSettings(), Role.VIEWER)
    assert ensure(tmp_path, ServerSettings(), Role.VIEWER) != first


def test_only_passwords_created_for_other_roles_can_be_revoked(tmp_path: Path) -> None:
    ensure(tmp_path, ServerSettings(), Role.OWNER)
    with pytest.raises(PasswordFileError, match="nirflow itself works with it"):
        revoke(tmp_path, ServerSettings(), Role.OWNER)
    given = ServerSettings(viewer_auth=SecretStr("eve:looks"))
    with pytest.raises(PasswordFileError, match="comes from the settings") as caught:
        revoke(tmp_path, given, Role.VIEWER)
    assert "NIRFLOW_SERVER_VIEWER_AUTH" in caught.value.remedy
    assert password.file_of(tmp_path).is_file()


def test_passwords_from_the_settings_take_precedence_and_reach_the_server(tmp_path: Path) -> None:
    given = ServerSettings(viewer_auth=SecretStr("eve:looks"), operator_auth=SecretStr("ana:operates"))
    assert from_settings(given) == {Role.VIEWER: "eve:looks", Role.OPERATOR: "ana:operates"}
    assert ensure(tmp_path, given, Role.VIEWER) == "eve:looks"
    assert not file_of(tmp_path / "prefect", Role.VIEWER).exists()
    environment = server_environment(given, home=tmp_path, port=1, database_url="x", base={})
    assert {name: environment[name] for name in ROLES} == dict(
        zip(ROLES, ("eve:looks", "ana:operates"), strict=True)
    )
    assert not set(ROLES) & set(
        server_environment(ServerSettings(), home=tmp_path, port=1, database_url="x", base={})
    )
    assert "looks" not in repr(given)


@pytest.mark.parametrize(
    ("changes", "message", "remedy"),
    [
        ({"viewer_auth": "nopassword"}, "not USER:PASSWORD", "NIRFLOW_SERVER_VIEWER_AUTH"),
        ({"operator_auth": ":x"}, "not USER:PASSWORD", "NIRFLOW_SERVER_OPERATOR_AUTH"),
        ({"operator_auth": "a:b\n"}, "not USER:PASSWORD", "NIRFLOW_SERVER_OPERATOR_AUTH"),
        ({"viewer_auth": "a:b", "operator_auth": "a:b"}, "Two roles", "NIRFLOW_SERVER_OPERATOR_AUTH"),
        ({"auth": "a:b", "operator_auth": "a:b"}, "Two roles", "NIRFLOW_SERVER_AUTH"),
        ({"auth": "a:b", "operator_auth": "a:c"}, "same user name", "NIRFLOW_SERVER_OPERATOR_AUTH"),
        ({"viewer_auth": "a:b", "operator_auth": "A:c"}, "same user name", "NIRFLOW_SERVER_VIEWER_AUTH"),
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, str], message: str, remedy: str) -> None:
    settings = ServerSettings(**{name: SecretStr(text) for name, text in changes.items()})  # type: ignore[arg-type]
    with pytest.raises(ServerError, match=message) as caught:
        check_password(settings)
    assert remedy in caught.value.remedy
    check_password(ServerSettings(auth=SecretStr("a:b"), viewer_auth=SecretStr("b:b")))

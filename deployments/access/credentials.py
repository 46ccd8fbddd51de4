"""The credentials (USER:PASSWORD) that identify a client of the Prefect server as owner, operator or viewer.

The owner's credential is the pipeline's own. Those of the other roles come from the settings, or from files in the
server's folder that `nirflow server login --role` creates. These files are read again whenever they change, so that a
new or revoked password takes effect at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.access import password
from deployments.access.policy import Role
from deployments.settings.server_settings import ServerSettings
from imaging.errors import NirflowError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """An authenticated client: its role and user name.

    Attributes
    ----------
    proof
        Digest of the password, for checking later whether it is still valid.
    """

    role: Role
    user: str
    proof: bytes


def file_of(folder: Path, role: Role) -> Path:
    """Return the path of a role's password file, as created by nirflow."""
    return folder / ("password" if role is Role.OWNER else f"password-{role.label}")


def from_settings(settings: ServerSettings) -> dict[Role, str]:
    """Return the passwords of viewer and operator that are set in the settings."""
    both = {Role.VIEWER: settings.viewer_auth, Role.OPERATOR: settings.operator_auth}
    return {role: secret.get_secret_value() for role, secret in both.items() if secret is not None}


def ensure(data_dir: Path, settings: ServerSettings, role: Role) -> str:
    """Return USER:PASSWORD of a role; create it if missing, which takes effect in a running server at once.

    Raises
    ------
    PasswordFileError
        As for `deployments.access.password.known`, or if another role has the same user name: the server would
        accept neither of the two, except the owner.
    """
    if role is Role.OWNER:
        return password.ensure(data_dir, settings)
    found = _kept(data_dir, settings, role) or f"{role.label}:"
    for other in Role:
        kept = _kept(data_dir, settings, other) if other is not role else None
        if kept is not None and password.same_user(found, kept):
            raise password.PasswordFileError(
                f"The {role.label} and the {other.label} have the same user name, {found.partition(':')[0]!r}.",
                remedy="Choose another in server.auth, server.operator_auth or server.viewer_auth; then nirflow up.",
            )
    return from_settings(settings).get(role) or password.make(_file(data_dir, role), role.label)


def _kept(data_dir: Path, settings: ServerSettings, role: Role) -> str | None:
    """Return a role's existing USER:PASSWORD; None if none is set or created."""
    if role is Role.OWNER:
        return password.known(data_dir, settings)
    if role in (given := from_settings(settings)):
        return given[role]
    try:
        return password.read(_file(data_dir, role))
    except FileNotFoundError:
        return None


def revoke(data_dir: Path, settings: ServerSettings, role: Role) -> bool:
    """Revoke the password that nirflow created for a role, which takes effect in a running server at once.

    Returns
    -------
    bool
        False if there was none.

    Raises
    ------
    PasswordFileError
        If it is the owner's, or comes from the settings.
    """
    if role is Role.OWNER:
        raise password.PasswordFileError(
            "The owner's password cannot be revoked: nirflow itself works with it.",
            remedy=f"To change it: nirflow down, remove {_file(data_dir, role)}, nirflow up.",
        )
    if role in from_settings(settings):
        raise password.PasswordFileError(
            f"The password of the {role.label} comes from the settings.",
            remedy=f"Remove server.{role.label}_auth (NIRFLOW_SERVER_{role.name}_AUTH) from them; then nirflow up.",
        )
    try:
        _file(data_dir, role).unlink()
    except FileNotFoundError:
        return False
    return True


def _file(data_dir: Path, role: Role) -> Path:
    return file_of(password.file_of(data_dir).parent, role)


class Credentials:
    """The passwords of a server's roles.

    Parameters
    ----------
    owner
        USER:PASSWORD of the owner.
    given
        Passwords from the settings.
    folder
        Folder of the other passwords' files.
    """

    def __init__(self, owner: str, given: Mapping[Role, str], folder: Path) -> None:
        self.owner = owner
        self._given = dict(given)
        self._folder = folder
        self._read: dict[Role, tuple[object, str | None]] = {}
        self._logged: set[str] = set()

    @property
    def owner_header(self) -> bytes:
        """The owner's credential as the value of an HTTP header."""
        return b"Basic " + base64.b64encode(self.owner.encode())

    def identify(self, credential: str) -> Identity | None:
        """Return the role and user that a USER:PASSWORD belongs to; None if it is unknown.

        All known ones are compared, each in a time that does not depend on the result.
        """
        proof = _proof(credential)
        found = None
        for role, known in self._known():
            if hmac.compare_digest(_proof(known), proof):
                found = Identity(role, known.partition(":")[0], proof)
        return found

    def holds(self, identity: Identity) -> bool:
        """Return whether the password of a login is still that of its role."""
        return any(
            role is identity.role and hmac.compare_digest(_proof(known), identity.proof)
            for role, known in self._known()
        )

    def _known(self) -> Iterator[tuple[Role, str]]:
        """Yield each role's credential; of two with the same user name only the owner's is valid.

        Decisions are logged under the user name, so each role must have its own.
        """
        found = {role: known for role in (Role.VIEWER, Role.OPERATOR) if (known := self._of(role))}
        for role, known in found.items():
            others = [other for one, other in found.items() if one is not role]
            if any(password.same_user(known, other) for other in (self.owner, *others)):
                self._log_once(
                    f"The {role.label} has the same user name as another role, and cannot log in. Give each role "
                    "its own user name."
                )
            else:
                yield role, known
        yield Role.OWNER, self.owner

    def _of(self, role: Role) -> str | None:
        if role in self._given:
            return self._given[role]
        path = file_of(self._folder, role)
        try:
            about = os.lstat(path)
            state: object = (about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size)
        except OSError:
            self._read.pop(role, None)
            return None
        if role not in self._read or self._read[role][0] != state:
            try:
                self._read[role] = state, password.read(path)
            except (NirflowError, OSError) as error:
                self._read[role] = state, None
                logger.error("The %s cannot log in: %s", role.label, error)
        return self._read[role][1]

    def _log_once(self, message: str) -> None:
        if message not in self._logged:
            self._logged.add(message)
            logger.error(message)


def _proof(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()

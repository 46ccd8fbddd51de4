"""Who asks the Prefect server: the owner, an operator or a viewer, by USER:PASSWORD.

The owner's is the pipeline's own. Those of the others come from the settings, or from files in the server's folder
that `nirflow server login --role` makes; these are looked at again whenever they change, so that one that was made or
withdrawn holds at once.
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
    """Who asks.

    Attributes
    ----------
    proof
        Digest of the password, to see later whether it still holds.
    """

    role: Role
    user: str
    proof: bytes


def file_of(folder: Path, role: Role) -> Path:
    """Where the password of a role is kept that nirflow made."""
    return folder / ("password" if role is Role.OWNER else f"password-{role.label}")


def given_in(settings: ServerSettings) -> dict[Role, str]:
    """The passwords of the viewer and the operator that the settings have."""
    both = {Role.VIEWER: settings.viewer_auth, Role.OPERATOR: settings.operator_auth}
    return {role: word.get_secret_value() for role, word in both.items() if word is not None}


def ensure(data_dir: Path, settings: ServerSettings, role: Role) -> str:
    """USER:PASSWORD of a role; one is made where there is none, which a running server takes at once.

    Raises
    ------
    PasswordFileError
        As for `deployments.access.password.known`, and where another role has the same user name: the server would let
        neither in, but for the owner.
    """
    if role is Role.OWNER:
        return password.ensure(data_dir, settings)
    found = _kept(data_dir, settings, role) or f"{role.label}:"
    for other in Role:
        kept = _kept(data_dir, settings, other) if other is not role else None
        if kept is not None and password.same_user(found, kept):
            raise password.PasswordFileError(
                f"The {role.label} and the {other.label} have one user name, {found.partition(':')[0]!r}.",
                remedy="Choose another in server.auth, server.operator_auth or server.viewer_auth; then nirflow up.",
            )
    return given_in(settings).get(role) or password.make(_file(data_dir, role), role.label)


def _kept(data_dir: Path, settings: ServerSettings, role: Role) -> str | None:
    """What a role has already; None where nothing was chosen or made."""
    if role is Role.OWNER:
        return password.known(data_dir, settings)
    if role in (given := given_in(settings)):
        return given[role]
    try:
        return password.read(_file(data_dir, role))
    except FileNotFoundError:
        return None


def revoke(data_dir: Path, settings: ServerSettings, role: Role) -> bool:
    """Take the password back that nirflow made for a role, which a running server notices at once.

    Returns
    -------
    bool
        False where none was made.

    Raises
    ------
    PasswordFileError
        Where it is that of the owner or of the settings.
    """
    if role is Role.OWNER:
        raise password.PasswordFileError(
            "The owner's password is the one by which nirflow itself works.",
            remedy=f"To change it: nirflow down, remove {_file(data_dir, role)}, nirflow up.",
        )
    if role in given_in(settings):
        raise password.PasswordFileError(
            f"The password of the {role.label} comes from the settings.",
            remedy=f"Take server.{role.label}_auth (NIRFLOW_SERVER_{role.name}_AUTH) out of them; then nirflow up.",
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
        Those of the settings.
    folder
        Where the others are kept.
    """

    def __init__(self, owner: str, given: Mapping[Role, str], folder: Path) -> None:
        self.owner = owner
        self._given = dict(given)
        self._folder = folder
        self._read: dict[Role, tuple[object, str | None]] = {}
        self._told: set[str] = set()

    @property
    def owner_header(self) -> bytes:
        """The owner's as a header of HTTP."""
        return b"Basic " + base64.b64encode(self.owner.encode())

    def identify(self, credential: str) -> Identity | None:
        """Who has that USER:PASSWORD; None where nobody has.

        Every one is compared, and each takes the same time whether it is the one or not.
        """
        proof = _proof(credential)
        found = None
        for role, known in self._known():
            if hmac.compare_digest(_proof(known), proof):
                found = Identity(role, known.partition(":")[0], proof)
        return found

    def holds(self, identity: Identity) -> bool:
        """Whether a password by which somebody logged in is still that of the role."""
        return any(
            role is identity.role and hmac.compare_digest(_proof(known), identity.proof)
            for role, known in self._known()
        )

    def _known(self) -> Iterator[tuple[Role, str]]:
        """Each role's; one with the user name of another role counts for neither, but for the owner.

        What is decided is logged by the user's name, so that each role has its own.
        """
        found = {role: known for role in (Role.VIEWER, Role.OPERATOR) if (known := self._of(role))}
        for role, known in found.items():
            others = [other for one, other in found.items() if one is not role]
            if any(password.same_user(known, other) for other in (self.owner, *others)):
                self._tell(
                    f"The {role.label} has the user name of another role, and cannot log in. Give each role a user "
                    "name of its own."
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

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.error(message)


def _proof(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()

"""Settings of the store: read from ``nirflow.toml``, the environment and secret files, never at import."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from pydantic import AfterValidator, BaseModel, ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from calib_store.model.settings_file import (
    CONFIG,
    WrongSettingsError,
    read_settings_file,
    settings_file,
    warn_of_readers,
    xdg,
)
from imaging.instruments import catalogue

__all__ = [
    "CONFIG",
    "PREFIX",
    "SECRETS",
    "Address",
    "StoreSettings",
    "WrongSettingsError",
    "default_data_dir",
    "given_by",
    "secret_files",
    "settings_file",
    "unknown",
    "variable",
]  # fmt: skip

#: Prefix of every variable.
PREFIX: Final = "NIRFLOW_"
#: Variable that names the folder of secret files: one file per setting.
SECRETS: Final = "NIRFLOW_SECRETS_DIR"
#: Where containers keep them.
_SECRETS_DIR: Final = "/run/secrets"


def default_data_dir() -> Path:
    """Return the user's data folder for nirflow, by the XDG base directory specification."""
    return xdg("XDG_DATA_HOME", ".local/share") / "nirflow"


def secret_files() -> dict[str, Path]:
    """Return the files that hold one setting each, by variable: ``nirflow_server_auth`` has NIRFLOW_SERVER_AUTH.

    They are in the folder that NIRFLOW_SECRETS_DIR names, otherwise in /run/secrets if this account can read it. Other
    files there are ignored.

    Raises
    ------
    WrongSettingsError
        If NIRFLOW_SECRETS_DIR does not name a folder that can be listed.
    """
    named = os.environ.get(SECRETS)
    folder = Path(named or _SECRETS_DIR).expanduser()
    try:
        found = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        if not named:
            return {}
        raise WrongSettingsError(
            f"{SECRETS} = {named}: {error.strerror or error}.", remedy="Correct it or unset it."
        ) from error
    return {path.name.upper(): path for path in found if path.name.upper().startswith(PREFIX)}


def _secret(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        # The error of a wrong encoding holds the bytes.
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise WrongSettingsError(
            f"The secret file {path} cannot be read: {why}.", remedy="Let this account read it."
        ) from None
    if not text:
        raise WrongSettingsError(f"The secret file {path} is empty.", remedy="Fill it or remove it.")
    return text


class _SecretFiles(EnvSettingsSource):
    """Settings from `secret_files`, written as in variables."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {name.lower(): _secret(path) for name, path in secret_files().items()}


def _address(text: str) -> str:
    # These characters mark the end of an address in messages, where its password is hidden.
    if re.search(r'[\s"<>]', text.partition("://")[2].rpartition("@")[0]):
        raise ValueError(
            "an account or password in an address has no space, quote, < or >; write %20, %22, %3C, %3E"
        )
    return text


def _full_path(path: Path) -> Path:
    if not path.expanduser().is_absolute():
        raise ValueError(
            f"{path} is a relative path, which depends on the working folder; write a path that starts with / or ~"
        )
    return path.expanduser()


#: A setting that is an address, which may hold a password.
Address = Annotated[str, AfterValidator(_address)]


class StoreSettings(BaseSettings):
    """Settings of the store: from arguments, variables such as ``NIRFLOW_DATA_DIR``, secret files, or ``nirflow.toml``.

    Raises
    ------
    WrongSettingsError
        If a setting is invalid.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=default_data_dir, description="folder of the database, the object files and scratch"
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="URL of a PostgreSQL database (16 or later); default: an embedded server",
    )
    objects_url: Address | None = Field(
        default=None,
        description="folder or URL (s3://bucket/prefix) of the product files; default: objects in the data folder",
    )
    instruments: tuple[Annotated[Path, AfterValidator(_full_path)], ...] = Field(
        default=(), description="tables of instruments in addition to those of nirflow and installed packages"
    )
    cache_limit: ByteSize = Field(
        default=ByteSize(20 * 1024**3), ge=0, description="bytes of local copies of product files at a URL"
    )

    def __init__(self, **values: Any) -> None:
        file = read_settings_file()
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _wrong(error, file.path if file is not None else None, type(self)) from None
        except SettingsError as error:
            given = ", ".join(sorted(name for name in os.environ if name.startswith(PREFIX)))
            raise WrongSettingsError(
                f"A variable with a list or a table is not valid JSON ({error}).",
                remedy=f"Write it as NIRFLOW_WATCH_FOLDERS='[\"/data/raw\"]'. Variables that are set: {given}.",
            ) from error
        if file is not None:
            warn_of_readers(file, tuple(_secrets_in(type(self), file.table)))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence: arguments, variables, secret files, the settings file."""
        file = read_settings_file()
        toml = () if file is None else (InitSettingsSource(settings_cls, dict(file.table)),)
        return (init_settings, env_settings, _SecretFiles(settings_cls), *toml)

    @property
    def objects_dir(self) -> Path:
        """Folder of the product files, if they are not at a URL."""
        return self.data_dir / "objects"


#: The catalogue calls this when a table is first needed, so nothing is read at import.
catalogue.own_tables_from(lambda: StoreSettings().instruments)


def _secrets_in(model: type[BaseModel], given: Mapping[str, Any], section: str = "") -> Iterator[str]:
    """Yield the names of the secrets that a settings file holds."""
    for name, info in model.model_fields.items():
        if not isinstance(given, dict) or name not in given:
            continue
        if SecretStr in (info.annotation, *get_args(info.annotation)):
            yield f"{section}{name}"
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _secrets_in(info.annotation, given[name], f"{name}.")


def variable(*names: str) -> str:
    """Return the variable of a setting: ``variable("server", "port")`` is NIRFLOW_SERVER_PORT."""
    return PREFIX + "_".join(names).upper()


def unknown(known: Collection[str], sections: Collection[str]) -> WrongSettingsError | None:
    """Return the error for a variable or secret file with nirflow's prefix that is no setting or section, or None."""
    for givers in _givers():
        for name, (giver, _) in givers.items():
            bare = name.removeprefix(PREFIX).lower()
            if bare not in known and not bare.startswith(tuple(f"{section}_" for section in sections)):
                return _misspelt(bare, giver)
    return None


def given_by(*names: str) -> str | Path | None:
    """Return the variable or the secret file that gives a setting, on its own or in the JSON table of its section."""
    for givers in _givers():
        for end in range(len(names), 0, -1):
            giver, text = givers.get(variable(*names[:end]), (None, ""))
            if giver is not None and (end == len(names) or _holds(text, names[end])):
                return giver
    return None


def _givers() -> Iterator[Mapping[str, tuple[str | Path, str]]]:
    """Yield variables, then secret files: each with its text, by the name of the variable."""
    yield {
        name.upper(): (name, text)
        for name, text in os.environ.items()
        if text and name.upper().startswith(PREFIX) and name.upper() not in (CONFIG, SECRETS)
    }
    yield {name: (path, _secret(path)) for name, path in secret_files().items()}


def _holds(text: str, name: str) -> bool:
    try:
        table = json.loads(text)
    except ValueError:
        return False
    return not isinstance(table, dict) or name in table


def _wrong(error: ValidationError, file: Path | None, model: type[BaseModel]) -> WrongSettingsError:
    problem = error.errors(include_url=False, include_context=False)[0]
    names = [str(name) for name in problem["loc"]]
    name, giver = ".".join(names), given_by(*names)
    if problem["type"] == "extra_forbidden":
        return _misspelt(name, giver or file)
    secret = isinstance(giver, Path) or _may_hold_secret(model, names)
    given = "" if secret else f" cannot be {problem['input']!r}"
    what = problem["msg"].removeprefix("Value error, ")
    return WrongSettingsError(
        f"Setting {name}{given}: {what[0].lower()}{what[1:]}.",
        remedy=f"Correct it in {_place(giver or file)}.",
    )


def _may_hold_secret(model: type[BaseModel], names: list[str]) -> bool:
    """Return whether the value is a secret, an address, or a table that may contain one."""
    info = model.model_fields.get(names[0])
    if info is None or any(word in names[-1] for word in ("url", "dask", "password", "auth", "webhook")):
        return True
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
        return len(names) == 1 or _may_hold_secret(info.annotation, names[1:])
    return SecretStr in (info.annotation, *get_args(info.annotation))


def _misspelt(name: str, giver: str | Path | None) -> WrongSettingsError:
    return WrongSettingsError(
        f"There is no setting {name}.",
        remedy=f"Correct its spelling in {_place(giver)}; nirflow settings lists them all.",
    )


def _place(giver: str | Path | None) -> str:
    return f"the variable {giver}" if isinstance(giver, str) else str(giver or "an argument")

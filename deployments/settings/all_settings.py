"""All settings of nirflow: one model, from ``nirflow.toml`` and the environment."""

from __future__ import annotations

import ipaddress
import math
import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import SettingsConfigDict

from calib_store.model.settings import PREFIX, Address, StoreSettings, given_by, unknown, variable
from calib_store.model.settings_file import read_settings_file
from deployments.settings.server_settings import ServerSettings
from deployments.settings.watch_settings import WatchSettings
from imaging.instruments import catalogue
from imaging.redaction import without_secrets


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_CRON: Final = re.compile(r"[0-9A-Za-z*/,#?L-]+")


def _cron(text: str) -> str:
    # Prefect has the last word when the schedule is made; this keeps its import out of every command.
    fields = text.split()
    if len(fields) != 5 or not all(map(_CRON.fullmatch, fields)):
        raise ValueError(f"{text!r} is no cron expression, such as '0 9 * * *' for nine each day")
    return text


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone, such as 'America/Santiago'") from None
    return name


class WorkerSettings(_Section):
    """The worker that runs flows."""

    enabled: bool = Field(default=True, description="run a worker on this machine")
    name: str | None = Field(
        default=None,
        description="its name; that of the machine without, so several on one machine need one each",
    )
    limit: int = Field(default=1, ge=1, description="runs at a time in the whole work pool")
    runs: int | None = Field(
        default=None,
        ge=1,
        description="runs at a time on this machine; as many as there may be in the pool without",
    )
    poll: float = Field(default=2.0, gt=0, description="time between two questions for scheduled runs, s")
    threads: int | None = Field(default=None, ge=1, description="threads of a run; as many as cores without")
    dask: Address | None = Field(
        default=None,
        description="address of a Dask scheduler (tcp://host:8786) whose workers run the steps, with these same "
        "settings and this data folder on a disk that they share; threads of the run without",
    )
    scratch_limit: ByteSize = Field(
        default=ByteSize(20 * 1024**3),
        ge=0,
        description="bytes of planes between steps that stay after a run, and of unpacked frames",
    )


#: Variables that only docker-compose.yml reads; its .env may be in the environment of a shell too.
_COMPOSE: Final = frozenset({"raw_dir", "raw_group", "ui_bind", "ui_port", "ui_url", "workers"})


class NightlySettings(_Section):
    """The scheduled reduction of the last night."""

    cron: Annotated[str, AfterValidator(_cron)] = Field(default="0 9 * * *", description="when it runs")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="America/Santiago", description="time zone of cron"
    )
    enabled: bool = Field(default=True, description="whether the schedule is active")
    calibration_days: int = Field(
        default_factory=lambda: math.floor(catalogue.longest("near")),
        ge=0,
        le=90,
        description="groups of raw calibration frames that reach within this of a night go with it, days",
    )
    waiting_days: int = Field(
        default_factory=lambda: math.floor(catalogue.longest("wait")),
        ge=1,
        description="science without its calibrations is waited for this long, days",
    )
    housekeeping_cron: Annotated[str, AfterValidator(_cron)] = Field(
        default="0 12 * * *", description="when the store is verified and old runs are forgotten"
    )
    keep_runs_days: int = Field(
        default=180, ge=1, description="the Prefect server forgets runs that ended before, days"
    )


#: How a mail server is spoken to.
Encryption = Literal["starttls", "implicit", "off"]


def _encryption(given: object) -> object:
    switch = {"true": "starttls", "1": "starttls", "false": "off", "0": "off"}
    return switch.get(str(given).lower(), given)


class NotifySettings(_Section):
    """Who is told of failures and finished nights; nobody without a webhook or addresses."""

    webhook: SecretStr | None = Field(default=None, description="URL that gets a JSON message by POST")
    email_to: tuple[str, ...] = Field(default=(), description="addresses")
    email_from: str = Field(default="nirflow@localhost", description="sender's address")
    smtp_host: str = Field(default="localhost", description="mail server")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="its TCP port")
    smtp_tls: Annotated[Encryption | Literal["auto"], BeforeValidator(_encryption)] = Field(
        default="auto",
        description="starttls, implicit (from the first byte on), off, or auto: implicit at port 465, starttls for an "
        "account on another machine, else off",
    )
    smtp_user: str | None = Field(default=None, description="account on the mail server")
    smtp_password: SecretStr | None = Field(default=None, description="its password")
    smtp_plain_login: bool = Field(
        default=False,
        description="send the password to another machine without encryption, where smtp_tls is off",
    )
    on: tuple[Literal["failure", "night"], ...] = Field(
        default=("failure", "night"), description="what is told: a failed run, a night's end"
    )

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return self.webhook is not None or bool(self.email_to)

    @property
    def smtp_encryption(self) -> Encryption:
        """How the mail server is spoken to."""
        if self.smtp_tls != "auto":
            return self.smtp_tls
        if self.smtp_port == smtplib.SMTP_SSL_PORT:
            return "implicit"
        return "off" if self.smtp_user is None or _is_this_machine(self.smtp_host) else "starttls"

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> Self:
        clear = self.smtp_user is not None and self.smtp_encryption == "off"
        if clear and not self.smtp_plain_login and not _is_this_machine(self.smtp_host):
            raise ValueError(
                f"smtp_tls is off, so the password of {self.smtp_user} would go to {self.smtp_host} in clear text; "
                "set smtp_tls to starttls or implicit, or smtp_plain_login to true"
            )
        return self


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Settings(StoreSettings):
    """Every setting: those of the store, and one section for each part that runs by itself.

    A variable is NIRFLOW_NAME or NIRFLOW_SECTION_NAME, a secret file has the variable's name in small letters; in
    ``nirflow.toml`` a section is a table.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, frozen=True, extra="forbid"
    )

    nights_dir: Path | None = Field(
        default=None,
        description="folder of the products and pages of nights, one folder a night; nights in the data folder without",
    )
    server: ServerSettings = Field(default=ServerSettings(), description="the Prefect server")
    worker: WorkerSettings = Field(default=WorkerSettings(), description="the worker")
    watch: WatchSettings = Field(default=WatchSettings(), description="arrival of frames")
    nightly: NightlySettings = Field(default_factory=NightlySettings, description="the scheduled reduction")
    notify: NotifySettings = Field(default=NotifySettings(), description="notifications")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        sections = {name for name in type(self).model_fields if isinstance(getattr(self, name), BaseModel)}
        if wrong := unknown(type(self).model_fields.keys() | _COMPOSE, sections):
            raise wrong

    @property
    def nights(self) -> Path:
        """Folder of the nights' products and pages."""
        return (self.nights_dir or self.data_dir / "nights").expanduser().absolute()


@dataclass(frozen=True)
class Described:
    """One setting as `nirflow settings` shows it."""

    name: str
    value: Any
    source: str
    variable: str
    description: str


def describe(settings: Settings) -> Iterator[Described]:
    """Every setting with its value (secrets hidden) and where it came from."""
    read = read_settings_file()
    given, file = (read.table, read.path) if read is not None else ({}, None)
    for name, info in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for part, about in type(value).model_fields.items():
                table = given.get(name, {})
                there = isinstance(table, dict) and part in table
                yield _told((name, part), getattr(value, part), file if there else None, about.description)
        else:
            yield _told((name,), value, file if name in given else None, info.description)


def _told(names: tuple[str, ...], value: Any, file: Path | None, description: str | None) -> Described:
    giver = given_by(*names)
    source = "environment" if isinstance(giver, str) else str(giver or file or "default")
    shown = without_secrets(value) if isinstance(value, str) else value
    return Described(".".join(names), shown, source, variable(*names), description or "")

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
from deployments.settings.catalogue_settings import CatalogueSettings
from deployments.settings.judge_settings import JudgeSettings
from deployments.settings.own_step_settings import StepSettings
from deployments.settings.server_settings import ServerSettings
from deployments.settings.watch_settings import WatchSettings
from imaging.instruments import catalogue
from imaging.own_steps.uses import StepUse
from imaging.redaction import without_secrets


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_CRON: Final = re.compile(r"[0-9A-Za-z*/,#?L-]+")


def _cron(text: str) -> str:
    # Prefect checks it in full when the schedule is created; this check does not need to import Prefect.
    fields = text.split()
    if len(fields) != 5 or not all(map(_CRON.fullmatch, fields)):
        raise ValueError(f"{text!r} is not a cron expression, such as '0 9 * * *' for nine each day")
    return text


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone, such as 'America/Santiago'") from None
    return name


class WorkerSettings(_Section):
    """The worker that runs flows."""

    enabled: bool = Field(default=True, description="run a worker on this machine")
    name: str | None = Field(
        default=None,
        description="name, which must differ between workers on one machine; default: that of the machine",
    )
    limit: int = Field(default=1, ge=1, description="runs at a time in the work pool")
    runs: int | None = Field(
        default=None,
        ge=1,
        description="runs at a time on this machine; default: the limit of the pool",
    )
    poll: float = Field(default=2.0, gt=0, description="time between two queries for scheduled runs, s")
    threads: int | None = Field(default=None, ge=1, description="threads of a run; default: one per core")
    dask: Address | None = Field(
        default=None,
        description="address of a Dask scheduler (tcp://host:8786) whose workers run the steps, with the same settings "
        "and this data folder on a shared disk; default: threads of the run",
    )
    scratch_limit: ByteSize = Field(
        default=ByteSize(20 * 1024**3),
        ge=0,
        description="bytes of intermediate planes kept after a run, and of unpacked frames",
    )
    space_pause: float = Field(
        default=300.0,
        gt=0,
        description="time after which a run that met a full disk looks whether it has room, s",
    )


#: Variables that only docker-compose.yml reads, but that a shell may also have from its .env.
_COMPOSE: Final = frozenset(
    {
        "raw_dir", "raw_group", "ui_bind", "ui_port", "ui_url", "workers", "container_cpus", "container_memory",
        "storage_closed", "backup_dir", "postgres_image", "python_image",
    }
)  # fmt: skip


class NightlySettings(_Section):
    """The scheduled reduction of the last night."""

    cron: Annotated[str, AfterValidator(_cron)] = Field(default="0 9 * * *", description="when it runs")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="America/Santiago",
        description="time zone of the observatory: of cron, and of the night that it reduces",
    )
    enabled: bool = Field(default=True, description="whether the schedule is active")
    calibration_days: int = Field(
        default_factory=lambda: math.floor(catalogue.longest("near")),
        ge=0,
        le=90,
        description="groups of raw calibration frames that overlap this time around a night are reduced with it, days",
    )
    waiting_days: int = Field(
        default_factory=lambda: math.floor(catalogue.longest("wait")),
        ge=1,
        description="time for which science waits for missing calibrations, days",
    )
    housekeeping_cron: Annotated[str, AfterValidator(_cron)] = Field(
        default="0 12 * * *", description="when the store is verified and old runs are deleted"
    )
    keep_runs_days: int = Field(
        default=180, ge=1, description="age from which the Prefect server deletes ended runs, days"
    )


#: Encryption of the connection to a mail server.
Encryption = Literal["starttls", "implicit", "off"]


def _encryption(given: object) -> object:
    switch = {"true": "starttls", "1": "starttls", "false": "off", "0": "off"}
    return switch.get(str(given).lower(), given)


class NotifySettings(_Section):
    """Notifications of failures, finished nights and crossed limits; off without a webhook or addresses."""

    webhook: SecretStr | None = Field(default=None, description="URL that receives a JSON message by POST")
    email_to: tuple[str, ...] = Field(default=(), description="addresses")
    email_from: str = Field(default="nirflow@localhost", description="sender's address")
    smtp_host: str = Field(default="localhost", description="mail server")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="its TCP port")
    smtp_tls: Annotated[Encryption | Literal["auto"], BeforeValidator(_encryption)] = Field(
        default="auto",
        description="starttls, implicit (from the first byte), off, or auto: implicit at port 465, starttls for an "
        "account on another machine, else off",
    )
    smtp_user: str | None = Field(default=None, description="account on the mail server")
    smtp_password: SecretStr | None = Field(default=None, description="its password")
    smtp_plain_login: bool = Field(
        default=False,
        description="send the password to another machine without encryption if smtp_tls is off",
    )
    on: tuple[Literal["failure", "night", "restart", "limit"], ...] = Field(
        default=("failure", "night", "restart", "limit"),
        description="events to notify of: a failed run, a night's end, a part of the service that restarts often, "
        "a limit of judge that frames cross",
    )

    @property
    def wanted(self) -> bool:
        """Whether there is any recipient."""
        return self.webhook is not None or bool(self.email_to)

    @property
    def smtp_encryption(self) -> Encryption:
        """The encryption of the connection to the mail server."""
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
    """Every setting: those of the store, and one section for each part of the service.

    A variable is NIRFLOW_NAME or NIRFLOW_SECTION_NAME, a secret file has the variable's name in lower case; in
    ``nirflow.toml`` a section is a table.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, frozen=True, extra="forbid"
    )

    nights_dir: Path | None = Field(
        default=None,
        description="folder of the products and pages, with one folder per night; default: nights in the data folder",
    )
    server: ServerSettings = Field(default=ServerSettings(), description="the Prefect server")
    worker: WorkerSettings = Field(default=WorkerSettings(), description="the worker")
    watch: WatchSettings = Field(default=WatchSettings(), description="arrival of frames")
    judge: JudgeSettings = Field(default=JudgeSettings(), description="the judge of arriving frames")
    nightly: NightlySettings = Field(default_factory=NightlySettings, description="the scheduled reduction")
    notify: NotifySettings = Field(default=NotifySettings(), description="notifications")
    steps: StepSettings = Field(default=StepSettings(), description="functions of your own as steps")
    catalogue: CatalogueSettings = Field(
        default=CatalogueSettings(), description="the catalogue of reference stars"
    )

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
    """Yield every setting with its value (secrets hidden) and its source."""
    read = read_settings_file()
    given, file = (read.table, read.path) if read is not None else ({}, None)
    for name, info in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for part, about in type(value).model_fields.items():
                table = given.get(name, {})
                in_file = isinstance(table, dict) and part in table
                yield _described(
                    (name, part), getattr(value, part), file if in_file else None, about.description
                )
        else:
            yield _described((name,), value, file if name in given else None, info.description)


def _described(names: tuple[str, ...], value: Any, file: Path | None, description: str | None) -> Described:
    origin = given_by(*names)
    source = "environment" if isinstance(origin, str) else str(origin or file or "default")
    shown = without_secrets(value) if isinstance(value, str) else value
    if isinstance(value, tuple) and any(isinstance(one, StepUse) for one in value):
        shown = tuple(map(str, value))
    return Described(".".join(names), shown, source, variable(*names), description or "")

"""Where Prefect's settings come from: variables and the profile of its home folder, never the working folder.

By itself it reads ``.env``, ``prefect.toml`` and ``pyproject.toml`` wherever it is imported, and again whenever it
makes settings. They can name a server, a profile, or a logging configuration that calls any function, and nirflow is
run in folders of raw frames that may be anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from imaging.after_import import after_import


@cache
def forget_working_folder() -> None:
    """Switch off Prefect's sources in the working folder; best before it is imported, which this does not do."""
    after_import("prefect.settings.sources", _without_toml_files)
    after_import("prefect.settings.base", _without_dotenv_file)


def _without_toml_files(sources: ModuleType) -> None:
    """No ``prefect.toml`` and no ``pyproject.toml``; the path of the profiles from the environment alone."""
    _replace(sources.TomlConfigSettingsSourceBase, "_read_files", lambda *_, **__: {})
    _replace(sources, "_get_profiles_path_from_toml", lambda *_: None)
    _replace(sources, "dotenv", _NoDotenv)


class _NoDotenv:
    @staticmethod
    def dotenv_values(*_: object) -> dict[str, str | None]:
        """What the file of variables says: nothing."""
        return {}


def _without_dotenv_file(base: ModuleType) -> None:
    """No ``.env``: neither for the models that come, nor for those that are there already."""
    configure = base.build_settings_config

    def build_settings_config(*arguments: Any, **named: Any) -> dict[str, Any]:
        return {**configure(*arguments, **named), "env_file": None}

    _replace(base, "build_settings_config", build_settings_config)
    _replace(base, "_build_settings_config", build_settings_config)
    for model in _all_below(base.PrefectBaseSettings):
        model.model_config["env_file"] = None


def _all_below(model: Any) -> Iterator[Any]:
    for below in model.__subclasses__():
        yield below
        yield from _all_below(below)


def _replace(there: Any, name: str, value: object) -> None:
    if not hasattr(there, name):
        raise RuntimeError(
            f"Prefect has no {there.__name__}.{name} any more: see tasks/prefect_internals/settings_sources.py"
        )
    setattr(there, name, value)

"""Sources of Prefect's settings: environment variables and the profile in its home folder, never the working
folder.

By default Prefect reads ``.env``, ``prefect.toml`` and ``pyproject.toml`` in the working folder when it is
imported, and whenever it creates settings. These files can name a server, a profile, or a logging
configuration that calls any function, and nirflow runs in folders of raw frames that may belong to anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from imaging.after_import import after_import


@cache
def forget_working_folder() -> None:
    """Disable Prefect's sources in the working folder; best called before Prefect is imported, which this
    does not do.
    """
    after_import("prefect.settings.sources", _without_toml_files)
    after_import("prefect.settings.base", _without_dotenv_file)


def _without_toml_files(sources: ModuleType) -> None:
    """Disable ``prefect.toml`` and ``pyproject.toml``; take the path of the profiles only from the
    environment.
    """
    _replace(sources.TomlConfigSettingsSourceBase, "_read_files", lambda *_, **__: {})
    _replace(sources, "_get_profiles_path_from_toml", lambda *_: None)
    _replace(sources, "dotenv", _NoDotenv)


class _NoDotenv:
    @staticmethod
    def dotenv_values(*_: object) -> dict[str, str | None]:
        """Return the variables of the ``.env`` file: none."""
        return {}


def _without_dotenv_file(base: ModuleType) -> None:
    """Disable ``.env``, for existing and for future models."""
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
            f"Prefect has no {there.__name__}.{name} any longer: see tasks/prefect_internals/settings_sources.py"
        )
    setattr(there, name, value)

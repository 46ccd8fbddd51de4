"""Where the store keeps its things: read from the environment when constructed, never at import."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_data_dir() -> Path:
    """The user's data folder for nirflow, by the XDG base directory specification."""
    base = os.environ.get("XDG_DATA_HOME", "")
    # The specification says that a relative path there is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share"
    return root / "nirflow"


class StoreSettings(BaseSettings):
    """Settings of the store, from arguments or from variables such as ``NIRFLOW_DATA_DIR``."""

    model_config = SettingsConfigDict(env_prefix="NIRFLOW_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=default_data_dir, description="folder of the database, the object files and scratch"
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="URL of a PostgreSQL database (16 or later); without it an embedded server is started",
    )

    @property
    def objects_dir(self) -> Path:
        """Folder of the content-addressed product files."""
        return self.data_dir / "objects"

    @property
    def scratch_dir(self) -> Path:
        """Folder of intermediates that can be made again."""
        return self.data_dir / "scratch"

"""The science: functions on arrays and frames. No Prefect, no SQL, no clock, no network."""

import os
from typing import Any

from imaging.after_import import after_import


def _forget_numba_file(config: Any) -> None:
    """Prevent numba from reading a ``.numba_config.yaml`` in the working folder, now and at each compilation.

    It could name the folder of the cache, whose files numba unpickles.
    """
    if config._config_fname != ".numba_config.yaml":
        raise RuntimeError(f"numba now uses another settings file: {config._config_fname}")
    config._config_fname = os.devnull  # it reads regular files only
    config.reload_config()


after_import("numba.core.config", _forget_numba_file)

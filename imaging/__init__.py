"""The science: functions on arrays and frames. No Prefect, no SQL, no clock, no network."""

import os
from typing import Any

from imaging.after_import import after_import


def _forget_numba_file(config: Any) -> None:
    """Have numba read no ``.numba_config.yaml`` of the working folder: not now, nor with each compilation.

    It could name the folder of the cache, from which numba unpickles what it finds.
    """
    if config._config_fname != ".numba_config.yaml":
        raise RuntimeError(f"numba has another settings file by now: {config._config_fname}")
    config._config_fname = os.devnull  # it reads regular files only
    config.reload_config()


after_import("numba.core.config", _forget_numba_file)

"""numba's settings and cache, made independent of the working folder and of what this account may write.

By default numba reads a file in the working folder, which could name the folder of the cache, whose files it
unpickles. And a kernel fails at its definition if its cache can be written nowhere, at its first call if the disk is
full.
"""

from __future__ import annotations

import logging
import os
from types import ModuleType
from typing import Any

from imaging.after_import import after_import

logger = logging.getLogger(__name__)


def adjust_numba() -> None:
    """Change numba as soon as it is imported."""
    after_import("numba.core.config", _forget_file)
    after_import("numba.core.caching", _tolerate_full_disk)
    after_import("numba.core.dispatcher", _cache_where_possible)


def _forget_file(config: Any) -> None:
    """Prevent numba from reading a ``.numba_config.yaml`` in the working folder, now and at each compilation."""
    if config._config_fname != ".numba_config.yaml":
        raise RuntimeError(f"numba now uses another settings file: {config._config_fname}")
    config._config_fname = os.devnull  # it reads regular files only
    config.reload_config()


def _cache_where_possible(dispatcher: ModuleType) -> None:
    """Compile a kernel in each process, instead of failing, where its cache can be written nowhere."""
    enable = dispatcher.Dispatcher.enable_caching

    def enable_caching(self: Any) -> None:
        try:
            enable(self)
        except RuntimeError as error:
            logger.info("%s; it is compiled in each process, which takes a second", error)

    dispatcher.Dispatcher.enable_caching = enable_caching


def _tolerate_full_disk(caching: ModuleType) -> None:
    """Go on with a compiled kernel that cannot be kept, and compile one whose file cannot be read."""
    save, load = caching.Cache.save_overload, caching.Cache.load_overload

    def save_overload(self: Any, sig: Any, data: Any) -> None:
        try:
            save(self, sig, data)
        except OSError as error:
            logger.info("The compiled %r is not kept: %s", self, error)

    def load_overload(self: Any, sig: Any, target_context: Any) -> Any:
        try:
            return load(self, sig, target_context)
        except (OSError, EOFError) as error:
            logger.info("The compiled %r cannot be read: %s", self, error)
            return None

    caching.Cache.save_overload = save_overload
    caching.Cache.load_overload = load_overload

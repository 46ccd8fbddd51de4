"""numba's settings and cache, made independent of the working folder and of what this account may write.

By default numba reads a file in the working folder, which could name the folder of the cache, whose files it
unpickles. A kernel fails at its definition if its cache can be written nowhere, at its first call if the disk is
full. And its compiled form is taken for current as long as its own file is the same, although kernels of other files
that it calls, and constants of other modules, are compiled into it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, Final

from imaging.after_import import after_import

logger = logging.getLogger(__name__)

#: Types of globals that numba compiles into a kernel as constants, besides numpy's.
_CONSTANTS: Final = (bool, int, float, complex, str, tuple)


def adjust_numba() -> None:
    """Change numba as soon as it is imported."""
    after_import("numba.core.config", _forget_file)
    after_import("numba.core.caching", _adjust_cache)
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


def _adjust_cache(caching: ModuleType) -> None:
    _tolerate_full_disk(caching)
    _stamp_with_all_that_is_compiled(caching)


def _stamp_with_all_that_is_compiled(caching: ModuleType) -> None:
    """Compile a kernel again if a kernel that it calls, or a constant that it uses, is another one."""
    mixin = caching._SourceFileBackedLocatorMixin
    of_function, stamp = mixin.from_function.__func__, mixin.get_source_stamp

    def from_function(cls: Any, function: Any, file: str) -> Any:
        locator = of_function(cls, function, file)
        if locator is not None:
            locator.compiled = function
        return locator

    def get_source_stamp(self: Any) -> object:
        function = getattr(self, "compiled", None)
        return stamp(self) if function is None else (stamp(self), compiled_in(function))

    mixin.from_function = classmethod(from_function)
    mixin.get_source_stamp = get_source_stamp


def compiled_in(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return what is compiled into a kernel from outside of its own code: constants, and the code of other kernels.

    Parameters
    ----------
    function
        The Python function of the kernel.

    Returns
    -------
    tuple of str
        Sorted; equal if, and only if, all that the kernel uses is equal.
    """
    import numpy as np  # `imaging` itself is light

    found: set[str] = set()
    pending, seen = [function], {function}
    while pending:
        one = pending.pop()
        code: Any = one.__code__
        if one is not function:
            found.add(f"{one.__module__}.{one.__qualname__} {_text_of(code)}")
        for name in code.co_names:
            value = one.__globals__.get(name)
            called = getattr(value, "py_func", None)
            if called is not None and called not in seen:
                seen.add(called)
                pending.append(called)
            elif isinstance(value, (*_CONSTANTS, np.generic)):
                found.add(f"{one.__module__}.{name} {value!r}")
            elif isinstance(value, np.ndarray):
                digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
                found.add(f"{one.__module__}.{name} {value.dtype} {value.shape} {digest}")
    return tuple(sorted(found))


def _text_of(code: CodeType) -> str:
    """Return the instructions, names and constants of a function and of those inside it; the same in each process."""
    constants = [_text_of(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


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

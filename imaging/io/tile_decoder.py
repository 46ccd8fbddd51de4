"""A separate program that unpacks one tile-compressed file from its standard input to its standard output.

The decoders of the tiles are compiled code that trusts its input: a damaged or crafted file may end the
process, or make it use any amount of memory and time. This process does nothing else and has limits.
`imaging.io.tiles` runs it by the path of this file; it imports nothing of nirflow, because starting is most
of its work.

Arguments: maximum memory (bytes), processor time (s) and output (bytes). It ends with 0; or with `UNDECODED`
or `UNWRITTEN`, with the reason on standard error.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import warnings

#: Exit codes for an invalid file, and for output that cannot be written.
UNDECODED, UNWRITTEN = 3, 4


class _Output:
    """Destination of the plain file; records whether writing failed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        left = memoryview(data).cast("B")
        total = len(left)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except OSError as error:
                self.error = error
                raise
        self._at += total
        return total

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._at

    def flush(self) -> None:
        """Do nothing: output is not buffered."""


def main() -> int:
    """Unpack standard input; return the exit code."""
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # the parent process ends it; an interrupt for all processes has nothing to do with the file
    out = _Output(os.dup(1))
    os.dup2(2, 1)  # output of libraries is not part of the file
    memory, seconds, size = map(int, sys.argv[1:])
    from astropy.io import fits

    for limit, value in (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, most))
    # After a warning (a short file) astropy fails, or the scan of the plain file detects it.
    warnings.simplefilter("ignore")
    try:
        with (
            open(0, "rb", buffering=0, closefd=False) as file,
            fits.open(file, memmap=False, do_not_scale_image_data=True) as packed,
        ):
            plain = fits.HDUList()
            for i, hdu in enumerate(packed):
                if not hasattr(hdu, "data"):  # astropy hides a lack of memory as a corrupted HDU
                    return _ended("it needs far more memory than its size explains, or an HDU is damaged")
                kind = fits.PrimaryHDU if i == 0 else fits.ImageHDU
                if isinstance(hdu, fits.BinTableHDU):
                    plain.append(hdu.copy())
                else:
                    plain.append(kind(hdu.data, hdu.header, do_not_scale_image_data=True))
            plain.writeto(out, output_verify="ignore")
    except MemoryError:  # within the limit, or an array that numpy refuses at once
        return _ended("it needs far more memory than its size explains")
    except Exception as error:  # noqa: BLE001 - the program that started this one reports it
        if out.error is None:
            return _ended(f"{type(error).__name__}: {error}")
        if out.error.errno == errno.EFBIG:
            return _ended("it unpacks to far more than it announces")
        return _ended(str(out.error.strerror), UNWRITTEN)
    return 0


def _ended(reason: str, code: int = UNDECODED) -> int:
    os.write(2, reason.encode(errors="replace"))
    return code


if __name__ == "__main__":
    code = main()
    os._exit(code)  # the memory may be damaged: no clean-up

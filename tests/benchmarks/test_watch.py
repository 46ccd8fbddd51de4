"""The benchmark's measurements of a process tree, compared with the known usage of its processes."""

from __future__ import annotations

import os
import sys

from benchmarks.watch import family, open_files, proportional, run, size_on_disk

MEGABYTE = 10**6
HOLD = "import sys, time; held = bytearray({size}); held[::4096] = b'x' * len(held[::4096]); time.sleep(0.5)"


def test_the_peak_is_that_of_the_process_tree() -> None:
    child = (
        f"import sys; held = bytearray({150 * MEGABYTE}); held[::4096] = b'x' * len(held[::4096])\n"
        "print(flush=True); sys.stdin.read()"
    )
    parent = (
        f"import subprocess, sys, time; held = bytearray({100 * MEGABYTE}); held[::4096] = b'x' * len(held[::4096])\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); time.sleep(2); child.communicate()"
    )
    watched = run([sys.executable, "-c", parent], environment=os.environ)
    assert watched.code == 0
    assert 245 * MEGABYTE < watched.peak < 320 * MEGABYTE
    assert 0 < watched.cpu < watched.wall - 1.9  # the pause takes no processor time


def test_exit_code_and_output_come_back() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(4)"
    watched = run([sys.executable, "-c", code], environment=os.environ, memory=False)
    assert (watched.code, watched.output, watched.errors, watched.peak) == (4, "out\n", "err\n", 0)


def test_a_service_does_not_count() -> None:
    code = HOLD.format(size=200 * MEGABYTE)
    watched = run([sys.executable, "-c", code, "deployments.prefect_server.serve"], environment=os.environ)
    assert watched.peak == 0


def test_an_ended_process_uses_no_memory() -> None:
    assert proportional(2**22 + 1) == 0
    assert family(2**22 + 1) == [2**22 + 1]
    assert os.getpid() in family(os.getpid())


def test_open_files_and_scratch_at_their_largest(tmp_path) -> None:
    code = (
        f"import time; held = [open('/dev/null') for _ in range(40)]; f = open({str(tmp_path / 'f')!r}, 'wb');"
        f"f.write(bytes({MEGABYTE})); f.flush(); time.sleep(3); f.truncate(0)"
    )
    watched = run([sys.executable, "-c", code], environment=os.environ, scratch=tmp_path)
    assert 44 <= watched.files < 80
    assert watched.scratch >= MEGABYTE
    assert size_on_disk(tmp_path) == 0
    assert open_files(2**22 + 1) == 0

"""A real S3 server on this machine, and the environment by which its clients find it.

Loaded by name from tests/conftest.py; the first test that needs it starts it (about a second).
"""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Yield an S3 server, and the environment by which its clients find it."""
    import logging

    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "hush", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("observatory")
        yield f"http://{host}:{port}"
    server.stop()

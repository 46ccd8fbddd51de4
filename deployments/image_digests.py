"""The digests of the container images, for ``.env``: ``python -m deployments.image_digests >> .env``.

A tag may name another image tomorrow; a digest names one for ever. This needs Docker, a connection to the registry of
the images, and the folder of ``docker-compose.yml`` as the working folder.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from deployments.printable_output import make_output_printable
from imaging.errors import NirflowError
from imaging.printable import printable_lines

logger = logging.getLogger(__name__)

_COMPOSE: Final = Path("docker-compose.yml")
#: A variable of the compose file that names an image, with its default.
_IMAGE: Final = re.compile(r"\$\{(NIRFLOW_[A-Z]+_IMAGE):-([^}]+)\}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TIMEOUT: Final = 120.0  # s


def main() -> int:
    """Print a line for ``.env`` for each image of the compose file."""
    make_output_printable()
    logging.basicConfig(format="%(message)s")
    try:
        lines = [f"{name}={image}@{_digest(image)}\n" for name, image in _images(_COMPOSE).items()]
    except NirflowError as error:
        logger.error("%s", error)
        return 1
    sys.stdout.write(printable_lines("".join(lines)))
    return 0


def _images(path: Path) -> dict[str, str]:
    """Return the images that a compose file names, by the variables that replace them."""
    try:
        text = path.read_text()
    except OSError as error:
        file = path.absolute()
        raise NirflowError(
            f"{file} cannot be read: {error.strerror or error}.",
            remedy="Change to the folder of nirflow's docker-compose.yml.",
        ) from error
    return dict(_IMAGE.findall(text))


def _digest(name: str) -> str:
    """Return the digest that the registry has for an image of a tag, for all machines."""
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NirflowError(
            f"The digest of {name} is not known: {error}.",
            remedy="Install Docker with buildx, and check the network.",
        ) from error
    found = _DIGEST.fullmatch(done.stdout.strip())
    if done.returncode or found is None:
        reason = (done.stderr or done.stdout).strip() or "Docker named no digest"
        raise NirflowError(
            f"The digest of {name} is not known: {reason}.",
            remedy="Check that the registry of the image can be reached.",
        )
    return found[0]


if __name__ == "__main__":
    sys.exit(main())

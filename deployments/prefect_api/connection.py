"""The way to the API of a Prefect server for processes that do not import Prefect."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid


class Connection:
    """One Prefect server over HTTP, with what it asks for: a password, a token against forged requests.

    Parameters
    ----------
    api_url
        As in PREFECT_API_URL: ``http://127.0.0.1:4210/api``.
    auth
        As in PREFECT_API_AUTH_STRING: ``user:password``.
    timeout
        How long to wait for an answer, s.
    """

    def __init__(self, api_url: str, auth: str | None, timeout: float) -> None:
        self.api_url = api_url.rstrip("/")
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json"}
        if auth:
            self._headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
        # A proxy meant for the outside must not be asked for a server on this machine.
        local = urllib.parse.urlsplit(api_url).hostname in ("127.0.0.1", "::1", "localhost")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if local else None))
        self._client = str(uuid.uuid4())

    def post(self, path: str, body: bytes) -> bytes:
        """Send; the answer.

        Raises
        ------
        urllib.error.HTTPError
            Where the server refuses. To be closed.
        OSError, http.client.HTTPException, ValueError
            Where it does not answer.
        """
        try:
            return self._ask(path, body)
        except urllib.error.HTTPError as error:
            # A server that protects itself against forged requests (CSRF) wants a token of its own.
            if error.code != http.client.FORBIDDEN:
                raise
            error.close()
        said = json.loads(self._ask(f"/csrf-token?client={self._client}", None))
        token = str(said["token"]) if isinstance(said, dict) and "token" in said else ""
        self._headers |= {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": self._client}
        return self._ask(path, body)

    def _ask(self, path: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(self.api_url + path, body, self._headers)
        with self._opener.open(request, timeout=self._timeout) as answer:
            read: bytes = answer.read()
        return read

"""The connection to the API of a Prefect server, for processes that do not import Prefect."""

from __future__ import annotations

import base64
import json
import uuid
from http import HTTPStatus
from typing import Final

from deployments.http_client import Answer, ask

#: Path at which a server with protection against forged requests (CSRF) issues tokens.
TOKENS: Final = "/csrf-token"


class RefusedError(Exception):
    """A request that the server refused.

    Attributes
    ----------
    path
        Path of the request, below the API.
    answer
        The server's response.
    """

    def __init__(self, path: str, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.reason}")
        self.path, self.answer = path, answer


class Connection:
    """A connection to a Prefect server over HTTP, with the password and the CSRF token that it requires.

    Parameters
    ----------
    api_url
        As in PREFECT_API_URL: ``http://127.0.0.1:4210/api``.
    auth
        As in PREFECT_API_AUTH_STRING: ``user:password``.
    timeout
        How long to wait for a response, s.
    """

    def __init__(self, api_url: str, auth: str | None, timeout: float) -> None:
        self.api_url = api_url.rstrip("/")
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json"}
        if auth:
            self._headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
        self._client = str(uuid.uuid4())

    def post(self, path: str, body: bytes) -> bytes:
        """Send a request and return the body of the response.

        Raises
        ------
        RefusedError
            If the server refuses the request.
        NoAnswerError, ValueError
            If it does not respond, or not with JSON.
        """
        try:
            return self._ask("POST", path, body)
        except RefusedError as refused:
            if refused.answer.status != HTTPStatus.FORBIDDEN:
                raise
        response = json.loads(self._ask("GET", f"{TOKENS}?client={self._client}"))
        token = str(response["token"]) if isinstance(response, dict) and "token" in response else ""
        self._headers |= {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": self._client}
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        answer = ask(method, self.api_url + path, timeout=self._timeout, body=body, headers=self._headers)
        if not answer.ok:
            raise RefusedError(path, answer)
        return answer.body

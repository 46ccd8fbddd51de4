"""No password of a URL or a header is in a text that leaves nirflow."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import NirflowError
from imaging.redaction import without_secrets

#: What nothing else in the texts below holds.
SECRET = st.text(alphabet="QXZ0#%!$'()*+,;=:@/?&[]~|^{}`\\é", min_size=1, max_size=20).map(
    lambda s: f"Q0{s}0Q"
)
#: Safe in any part of a URL, as a library quotes it.
QUOTED = SECRET.map(lambda secret: quote(secret, safe=""))
WORD = st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=8)
SCHEME = st.sampled_from(
    ["http", "https", "postgresql", "postgresql+asyncpg", "s3", "tcp", "tls", "smtp", "redis"]
)
AROUND = st.sampled_from(
    [
        "{}", "'{}' does not answer", "url={} (try again)", "unknown url type: {}", '{{"api_url":"{}","next":1}}',
        "first\n  {}\nlast", "<{}>", "NIRFLOW_DATABASE_URL={}", "[Errno 111] {}: refused", "wrong: {}.",
    ]
)  # fmt: skip


@given(SCHEME, WORD, SECRET, WORD, WORD, AROUND)
def test_no_password_of_a_url_is_left(
    scheme: str, user: str, secret: str, host: str, path: str, around: str
) -> None:
    shown = without_secrets(around.format(f"{scheme}://{user}:{secret}@{host}:5432/{path}"))
    assert secret not in shown
    assert shown == around.format(f"{scheme}://{user}:***@{host}:5432/{path}")


@given(st.sampled_from(["http", "https", "HTTP"]), QUOTED, WORD, AROUND)
def test_no_token_before_a_web_host_is_left(scheme: str, secret: str, host: str, around: str) -> None:
    shown = without_secrets(around.format(f"{scheme}://{secret}@{host}/api"))
    assert shown == around.format(f"{scheme}://***@{host}/api")


@given(
    SCHEME, WORD, QUOTED,
    st.sampled_from(["password", "sslpassword", "token", "access_token", "X-Amz-Signature", "X-Amz-Credential",
                     "AWSAccessKeyId", "api_key", "sig", "client_secret", "auth", "passphrase"]),
    AROUND,
)  # fmt: skip
def test_no_secret_parameter_is_left(scheme: str, host: str, secret: str, name: str, around: str) -> None:
    shown = without_secrets(around.format(f"{scheme}://{host}/x?first=1&{name}={secret}&last=2"))
    assert shown == around.format(f"{scheme}://{host}/x?first=1&{name}=***&last=2")


@given(SECRET)
def test_hiding_twice_does_no_harm(secret: str) -> None:
    once = without_secrets(f"s3://key:{secret}@bucket/x?token={secret} password={secret}")
    assert without_secrets(once) == once


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=db user=ana password=hush dbname=x", "host=db user=ana password=*** dbname=x"),
        (r"host=db password='it\'s hush' dbname=x", "host=db password=*** dbname=x"),
        ("{'Authorization': 'Basic aHVzaA=='}", "{'Authorization': 'Basic ***'}"),
        ("authorization: Bearer aHVzaA.x-y", "authorization: Bearer ***"),
        ("Authorization=aHVzaA", "Authorization=***"),
        ("http://a:b@c and http://d:e@f", "http://a:***@c and http://d:***@f"),
    ],
)
def test_other_ways_to_write_a_password(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ana@db:5432/nirflow", "http://127.0.0.1:4210/runs/flow-run/1?tab=Logs", "file:///data/nights",
        "The password of the mail server is wrong.", "Mail ana@example.org, see https://example.org/a.",
        "Set NIRFLOW_SERVER_AUTH to USER:PASSWORD", "s3://bucket/prefix", "a basic calibration: the dark",
        "postgresql:///nirflow?host=/run/pg&passfile=/run/pg/no-passwords",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_no_error_of_ours_holds_a_password() -> None:
    error = NirflowError(
        "PREFECT_API_URL = http://u:hush@h/api does not answer.", remedy="Correct s3://k:hush@b."
    )
    assert "hush" not in f"{error} {error!r} {error.message} {error.remedy} {error.args}"
    assert error.message == "PREFECT_API_URL = http://u:***@h/api does not answer."

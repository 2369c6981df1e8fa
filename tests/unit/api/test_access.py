"""THREATS 15: the whole matrix of who may call the control API over TCP."""

from __future__ import annotations

import itertools

import pytest

from dragon.api.access import Caller, refusal

PORT, TOKEN = 8765, "t" * 43

HOSTS = {
    f"127.0.0.1:{PORT}": True,
    f"localhost:{PORT}": True,
    f"LOCALHOST:{PORT}": True,
    f"[::1]:{PORT}": True,
    "127.0.0.1": False,
    "127.0.0.1:8766": False,
    "localhost": False,
    f"localhost.:{PORT}": False,
    f"evil.example:{PORT}": False,
    f"127.0.0.1.evil.example:{PORT}": False,
    f"localhost:{PORT}@evil.example": False,
    f"127.1:{PORT}": False,
    f"0.0.0.0:{PORT}": False,
    "": False,
    None: False,
}
ORIGINS = {
    None: True,
    f"http://127.0.0.1:{PORT}": True,
    f"http://localhost:{PORT}": True,
    f"https://127.0.0.1:{PORT}": False,
    "http://127.0.0.1": False,
    "http://127.0.0.1:80": False,
    "http://evil.example": False,
    f"http://127.0.0.1:{PORT}.evil.example": False,
    f"http://evil.example:{PORT}": False,
    "null": False,
    "": False,
    "file://": False,
}
TOKENS = {
    f"Bearer {TOKEN}": True,
    f"bearer {TOKEN}": True,
    TOKEN: False,
    f"Basic {TOKEN}": False,
    f"Bearer {TOKEN}x": False,
    f"Bearer {TOKEN[:-1]}": False,
    "Bearer": False,
    "Bearer é": False,
    "": False,
    None: False,
}
METHODS = {
    "GET": True,
    "HEAD": True,
    "POST": True,
    "DELETE": True,
    "PUT": False,
    "OPTIONS": False,
    "get": False,
}
TYPES = {
    "application/json": True,
    "application/json; charset=utf-8": True,
    "text/plain": False,
    "application/x-www-form-urlencoded": False,
    "multipart/form-data; boundary=application/json": False,
    "": False,
    None: False,
}


def test_only_what_is_right_in_every_respect_enters() -> None:
    admitted = 0
    for (host, h), (origin, o), (token, t), (method, m), (kind, k) in itertools.product(
        HOSTS.items(), ORIGINS.items(), TOKENS.items(), METHODS.items(), TYPES.items()
    ):
        expected = h and o and t and m and (k or method in ("GET", "HEAD"))
        refused = refusal(Caller(method, host, origin, token, kind), port=PORT, token=TOKEN)
        assert (refused is None) == expected, (host, origin, token, method, kind, refused)
        if refused is not None:
            assert 400 <= refused.status < 500
            assert refused.error
            assert refused.hint
            assert TOKEN not in refused.error + refused.hint
        admitted += refused is None
    assert admitted == 4 * 3 * 2 * (2 * len(TYPES) + 2 * 2)


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (Caller("POST", "evil.example", None, f"Bearer {TOKEN}", "application/json"), 421),
        (Caller("POST", f"localhost:{PORT}", "http://evil.example", f"Bearer {TOKEN}", "application/json"), 403),
        (Caller("OPTIONS", f"localhost:{PORT}", None, f"Bearer {TOKEN}", None), 405),
        (Caller("GET", f"localhost:{PORT}", None, None, None), 401),
        (Caller("POST", f"localhost:{PORT}", None, f"Bearer {TOKEN}", "text/plain"), 415),
    ],
)
def test_the_status_says_what_is_wrong(caller: Caller, status: int) -> None:
    refused = refusal(caller, port=PORT, token=TOKEN)
    assert refused is not None
    assert refused.status == status

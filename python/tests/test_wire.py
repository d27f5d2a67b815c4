from __future__ import annotations

import base64
import json
import re
from datetime import timedelta

import pytest

from caisson import Volume, errors
from caisson._installation_key import proof_of_key
from caisson._wire import api_error, js_regex, next_cursor, sandbox_config, sandbox_error


def decode(header: str) -> dict[str, object]:
    return json.loads(base64.b64decode(header))


def config(**given: object) -> dict[str, object]:
    names = ("region", "env", "timeout", "memory_mb", "labels", "root", "volumes", "allow_net", "secrets", "hostname")
    return decode(sandbox_config(**{**dict.fromkeys(names), **given}))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("link", "cursor"),
    [
        (None, None),
        ('<http://h/api/v2/volumes?cursor=abc&limit=1>; rel="next"', "abc"),
        ('<http://h/x?cursor=a%2Bb%3D>; rel="next"', "a+b="),
        ('<http://h/x?cursor=p>; rel="prev", <http://h/x?cursor=n>; rel="next"', "n"),
        ('<http://h/x?cursor=p>; rel="prev"', None),
        ('<http://h/x?limit=1>; rel="next"', None),
    ],
)
def test_the_next_cursor_comes_from_the_link_header(link: str | None, cursor: str | None) -> None:
    assert next_cursor(link) == cursor


@pytest.mark.parametrize(
    ("timeout", "text"),
    [("session", "session"), ("5m", "5m"), (90, "90s"), (0.2, "1s"), (timedelta(minutes=2), "120s")],
)
def test_durations_become_whole_seconds(timeout: str | float | timedelta, text: str) -> None:
    assert config(timeout=timeout)["timeout"] == text


@pytest.mark.parametrize("timeout", [0, -1, timedelta(0)])
def test_a_duration_must_be_above_zero(timeout: float | timedelta) -> None:
    with pytest.raises(ValueError, match="above zero"):
        config(timeout=timeout)


def test_the_configuration_holds_only_what_was_given_and_is_plain_ascii() -> None:
    assert config() == {"memory_mb": 1280}
    assert config(allow_net=[], env={"A": "é€😀"}) == {"memory_mb": 1280, "allow_net": [], "env": {"A": "é€😀"}}
    header = sandbox_config(
        region=None,
        env={"A": "é"},
        timeout=None,
        memory_mb=None,
        labels=None,
        root=None,
        volumes=None,
        allow_net=None,
        secrets=None,
        hostname=None,
    )
    assert base64.b64decode(header).isascii()


def test_volumes_are_named_by_text_by_object_and_with_options() -> None:
    volume = Volume({"id": "vol_1", "slug": "data"})
    mounts = {"/a": "x", "/b": volume, "/c": {"volume": volume, "read_only": True}, "/d": {"volume": "y"}}
    assert config(volumes=mounts)["volumes"] == [
        {"volume": "x", "path": "/a"},
        {"volume": "vol_1", "path": "/b"},
        {"volume": "vol_1", "path": "/c", "read_only": True},
        {"volume": "y", "path": "/d"},
    ]
    assert config(root=volume)["root"] == {"volume": "vol_1"}
    with pytest.raises(ValueError, match="readonly"):
        config(volumes={"/a": {"volume": "x", "readonly": True}})


@pytest.mark.parametrize(
    ("pattern", "source", "flags"),
    [
        (re.compile(r"\.py$", re.IGNORECASE | re.MULTILINE | re.DOTALL), r"\.py$", "ims"),
        (re.compile(r"(?P<year>\d+)-(?P=year)"), r"(?<year>\d+)-\k<year>", ""),
        (re.compile(r"\Aa\\Z\Z"), r"(?<![\s\S])a\\Z(?![\s\S])", ""),
        (re.compile(r"(?:a|b)(?=c)(?!d)(?<=e)"), r"(?:a|b)(?=c)(?!d)(?<=e)", ""),
        (re.compile(re.escape("a-b c#d")), r"a\-b\ c\#d", ""),
    ],
)
def test_patterns_are_translated_to_javascript(pattern: re.Pattern[str], source: str, flags: str) -> None:
    assert js_regex(pattern) == {"source": source, "flags": flags}


@pytest.mark.parametrize(
    "pattern",
    [re.compile("a # b", re.VERBOSE), re.compile(r"\w", re.ASCII), re.compile("(?i:a)"), re.compile("(a)?(?(1)b|c)")],
)
def test_patterns_that_javascript_cannot_express_are_refused(pattern: re.Pattern[str]) -> None:
    with pytest.raises(ValueError, match="Pattern"):
        js_regex(pattern)


def test_every_class_of_error_inside_a_sandbox_can_be_made_and_caught() -> None:
    for kind, cls in errors.SANDBOX_ERRORS.items():
        error = sandbox_error({"constructorName": kind, "message": "m", "code": "EIO"}, "stat")
        assert type(error) is cls
        assert (error.kind, error.message, error.code) == (kind, "m", "EIO")
        if isinstance(error, OSError):
            assert error.errno == 5
    full = sandbox_error({"constructorName": "Error", "message": "m", "code": "ENOSPC"}, "writeFile")
    assert isinstance(full, OSError)
    assert full.errno == 28
    assert type(sandbox_error({"constructorName": "Error", "message": "m"}, "stat")) is errors.SandboxError
    assert type(sandbox_error({"constructorName": "Mine", "message": "m"}, "stat")) is errors.JavaScriptError


def test_an_error_with_an_unknown_status_is_still_an_api_error() -> None:
    error = api_error(418, {}, b'{"code": "TEAPOT", "message": "short and stout"}')
    assert type(error) is errors.ApiError
    assert str(error) == "short and stout (418 TEAPOT)"
    assert api_error(500, {}, b"").message == "HTTP status 500"


def test_the_proof_of_a_key_is_the_one_that_the_server_expects() -> None:
    proof = proof_of_key(f"caisson-key-1:{'0123456789abcdef' * 4}")
    assert proof == "1e047c16df529b2e836c034e668ce3e7dbb42393995b0671e6bf4e9d58bcba76"

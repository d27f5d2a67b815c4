from __future__ import annotations

import json
import pickle

import pytest

from caisson import AsyncCaisson, AsyncDenoDeploy, Caisson, DenoDeploy, SandboxMeta, Volume, errors
from caisson._options import Options

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_the_names_of_the_official_package_are_there() -> None:
    assert DenoDeploy is Caisson
    assert AsyncDenoDeploy is AsyncCaisson


def test_a_token_is_needed_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.MissingApiToken, match="CAISSON_TOKEN"):
        Caisson()
    monkeypatch.setenv("DENO_DEPLOY_TOKEN", "ddo_deno")
    assert Options.resolve({}).token == "ddo_deno"
    monkeypatch.setenv("CAISSON_TOKEN", "ddo_caisson")
    assert Options.resolve({"token": None}).token == "ddo_caisson"
    options = Options.resolve({"token": "ddo_given"})
    assert options.token == "ddo_given"
    assert "ddo_given" not in repr(options)


def test_endpoints_come_from_options_then_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(**given: str) -> tuple[str, str]:
        options = Options.resolve({"token": "t", **given})
        return options.endpoint, options.sandbox_origin("ams")

    assert resolve() == ("http://127.0.0.1:8484", "http://127.0.0.1:8484")
    monkeypatch.setenv("DENO_SANDBOX_BASE_DOMAIN", "example.com")
    assert resolve() == ("http://127.0.0.1:8484", "https://ams.example.com")
    monkeypatch.setenv("DENO_DEPLOY_ENDPOINT", "https://console.example.com/")
    monkeypatch.setenv("DENO_SANDBOX_ENDPOINT", "https://sandbox.example.com")
    assert resolve() == ("https://console.example.com", "https://sandbox.example.com")
    monkeypatch.setenv("CAISSON_ENDPOINT", "http://caisson:1")
    assert resolve() == ("http://caisson:1", "http://caisson:1")
    assert resolve(endpoint="http://given:2") == ("http://given:2", "http://given:2")
    assert resolve(endpoint="http://given:2", sandbox_endpoint="http://s:3") == ("http://given:2", "http://s:3")


def test_a_sandbox_is_looked_for_in_the_region_of_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENO_SANDBOX_BASE_DOMAIN", "example.com")
    options = Options.resolve({"token": "t"})
    assert options.origin_of_sandbox("sbx_ams_0123456789abcdefghjk") == "https://ams.example.com"
    assert options.origin_of_sandbox("anything") == "https://ord.example.com"


@pytest.mark.parametrize("endpoint", ["localhost:8484", "ftp://x", "http://x/path", "http://x?q=1", "http://"])
def test_an_endpoint_must_be_an_origin(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Caisson(token="t", endpoint=endpoint)


def test_options_that_do_not_exist_or_make_no_sense_are_refused() -> None:
    with pytest.raises(TypeError, match="regions"):
        Caisson({"token": "t", "regions": ["ord"]})
    with pytest.raises(ValueError, match="timeout"):
        Caisson(token="t", timeout=0)
    with pytest.raises(ValueError, match="max_retries"):
        Caisson(token="t", max_retries=-1)
    with Caisson({"token": "t", "max_retries": 0}):
        pass


def test_records_are_dictionaries_with_attributes() -> None:
    volume = Volume.from_wire({"id": "v", "slug": "s", "estimated_flattened_size": 7, "new_key": {"aB": 1}})
    assert volume == {
        "id": "v",
        "slug": "s",
        "estimated_flattened_size": 7,
        "new_key": {"aB": 1},
        "used": 7,
        "last_error": None,
        "inodes": None,
        "used_inodes": None,
        "exclusive": None,
        "usage_measured_at": None,
        "unavailable": None,
        "node": None,
        "storage_class": None,
        "schedule": None,
        "replicated_at": None,
    }
    assert json.loads(json.dumps(volume)) == volume
    assert pickle.loads(pickle.dumps(volume)).slug == "s"
    assert repr(Volume({"id": "v"})) == "Volume(id='v')"
    with pytest.raises(AttributeError, match="labels"):
        _ = volume.labels
    meta = SandboxMeta.from_wire({"createdAt": "t", "labels": {"camelKey": "V"}})
    assert meta == {"created_at": "t", "labels": {"camelKey": "V"}, "stopped_at": None, "node": None}

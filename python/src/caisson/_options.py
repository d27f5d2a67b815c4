"""Where the server is, who calls, and how long to wait."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from .errors import MissingApiToken

DEFAULT_ENDPOINT = "http://127.0.0.1:8484"
DEFAULT_REGION = "ord"
_SANDBOX_ID = re.compile(r"sbx_([a-z]{3})_")


@dataclass(frozen=True)
class Options:
    """Options of a client. Whatever is not given comes from the environment, then from the default.

    Attributes:
        token: Credentials. Environment: `CAISSON_TOKEN`, then `DENO_DEPLOY_TOKEN`. There is no default.
        endpoint: Origin of the server. Environment: `CAISSON_ENDPOINT`, then `DENO_DEPLOY_ENDPOINT`. Default:
            `http://127.0.0.1:8484`.
        sandbox_endpoint: Origin for sandboxes, where it is another. Default: `endpoint`; but where that came from
            `DENO_DEPLOY_ENDPOINT` or its default, `DENO_SANDBOX_ENDPOINT`, then `https://<region>.` and
            `DENO_SANDBOX_BASE_DOMAIN`.
        org: Slug of the organization; needed with a personal token. Environment: `CAISSON_ORG`, then
            `DENO_DEPLOY_ORG`.
        timeout: Seconds to wait for the answer to a request. Default: 30.
        connect_timeout: Seconds to wait until a sandbox is created or connected to. Default: 60.
        call_timeout: Seconds to wait for the answer to a call into a sandbox, counted after everything was sent.
            Waiting for programs of yours has no limit unless you give one. Default: 120.
        stop_timeout: Seconds that leaving a sandbox waits until its volumes are durable and free. Default: 60.
        max_retries: How often a request is repeated that failed in a way that may pass. Default: 3.
        max_message_bytes: Size limit of one message from a sandbox, for example a whole file. Default: 256 MiB.
        buffer_bytes: How much unread output a connection keeps before it stops taking more. Default: 128 MiB.
        ssl_context: How servers are verified. Default: the system's certificate store and `SSL_CERT_FILE`.
    """

    token: str = field(repr=False)
    ssl_context: ssl.SSLContext
    endpoint: str = DEFAULT_ENDPOINT
    sandbox_endpoint: str | None = None
    base_domain: str | None = None
    org: str | None = None
    timeout: float = 30.0
    connect_timeout: float = 60.0
    call_timeout: float = 120.0
    stop_timeout: float = 60.0
    max_retries: int = 3
    max_message_bytes: int = 256 * 1024 * 1024
    buffer_bytes: int = 128 * 1024 * 1024

    @staticmethod
    def resolve(given: Mapping[str, Any]) -> Options:
        """Completes the options that were given (None counts as not given) from the environment.

        Raises:
            TypeError: For an option that does not exist.
            ValueError: For an endpoint that is not an origin, or a number that makes no sense.
            MissingApiToken: When there is no token.
        """
        known = {option.name for option in fields(Options)} - {"base_domain"}
        for name in given:
            if name not in known:
                raise TypeError(f"Unknown option {name!r}: the options are {', '.join(sorted(known))}")
        values = {name: value for name, value in given.items() if value is not None}
        for name, variables in (
            ("token", ("CAISSON_TOKEN", "DENO_DEPLOY_TOKEN")),
            ("org", ("CAISSON_ORG", "DENO_DEPLOY_ORG")),
        ):
            values.setdefault(name, _read(*variables))
        if "endpoint" not in values:
            values["endpoint"] = _read("CAISSON_ENDPOINT", "DENO_DEPLOY_ENDPOINT") or DEFAULT_ENDPOINT
            if _read("CAISSON_ENDPOINT") is None:
                values.setdefault("sandbox_endpoint", _read("DENO_SANDBOX_ENDPOINT"))
                values["base_domain"] = _read("DENO_SANDBOX_BASE_DOMAIN")
        values = {name: value for name, value in values.items() if value is not None}
        if "token" not in values:
            raise MissingApiToken(
                "No token: pass token=..., or set CAISSON_TOKEN or DENO_DEPLOY_TOKEN (`caisson env` prints one)"
            )
        for name in ("endpoint", "sandbox_endpoint"):
            if name in values:
                values[name] = _origin(name, values[name])
        for name, value in values.items():
            if isinstance(value, (int, float)) and (value < 0 or (value == 0 and name != "max_retries")):
                raise ValueError(f"Option {name} is {value}: give a number above zero")
        values.setdefault("ssl_context", ssl.create_default_context())
        return Options(**values)

    def sandbox_origin(self, region: str | None) -> str:
        """The origin of the sandbox API for a region."""
        if self.sandbox_endpoint is not None:
            return self.sandbox_endpoint
        if self.base_domain is not None:
            return f"https://{region or DEFAULT_REGION}.{self.base_domain}"
        return self.endpoint

    def origin_of_sandbox(self, sandbox_id: str) -> str:
        """The origin of the sandbox API that is nearest to a sandbox, whose id names its region."""
        match = _SANDBOX_ID.match(sandbox_id)
        return self.sandbox_origin(match.group(1) if match else None)

    def headers(self) -> dict[str, str]:
        """What every request carries, upgrades included."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/vnd.caisson+json, application/json;q=0.9",
        }
        if self.org is not None:
            headers["X-Deno-Org"] = self.org
        return headers


def _read(*variables: str) -> str | None:
    """The first of these environment variables that has a value."""
    return next((value for name in variables if (value := os.environ.get(name))), None)


def _origin(name: str, text: str) -> str:
    parts = urlsplit(text.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
        raise ValueError(f"Option {name} is {text!r}: give an origin such as {DEFAULT_ENDPOINT}, without a path")
    return f"{parts.scheme}://{parts.netloc}"

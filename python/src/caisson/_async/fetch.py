"""HTTP requests that are made inside a sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Literal

from ..errors import HTTPStatusError
from .concurrency import ByteSource
from .connection import AsyncConnection, optional
from .streams import AsyncByteStream


class AsyncFetchResponse:
    """The answer to `fetch`. Read its body or close it; `with` does the latter.

    Attributes:
        status_code: The HTTP status.
        status_text: The text beside it.
        headers: The headers as pairs, with lower-case names, in the order in which they came.
    """

    def __init__(self, answer: Mapping[str, Any], body: AsyncByteStream | None) -> None:
        self.status_code: int = answer["status"]
        self.status_text: str = answer["statusText"]
        self.headers: list[tuple[str, str]] = [(name, value) for name, value in answer["headers"]]
        self._body = body
        self._content: bytes | None = None

    def header(self, name: str) -> str | None:
        """The first header with this name, in any case; None when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    async def read(self) -> bytes:
        """The whole body. May be called again."""
        if self._content is None:
            self._content = b"" if self._body is None else await self._body.read()
        return self._content

    async def text(self) -> str:
        """The whole body as text, read as UTF-8."""
        return (await self.read()).decode("utf-8", "replace")

    async def json(self) -> Any:
        """The whole body as JSON. Raises `ValueError` when it is not."""
        return json.loads(await self.read())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come. It is not kept."""
        if self._body is not None:
            async for chunk in self._body.chunks():
                yield chunk

    async def close(self) -> None:
        """Stops the transfer of what was not read."""
        if self._body is not None:
            await self._body.cancel()

    def raise_for_status(self) -> None:
        """Raises `HTTPStatusError` when the status is 400 or more."""
        if self.is_error:
            raise HTTPStatusError(self.status_code, self.status_text)

    @property
    def is_informational(self) -> bool:
        return 100 <= self.status_code <= 199

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code <= 299

    @property
    def is_redirect(self) -> bool:
        return 300 <= self.status_code <= 399

    @property
    def is_client_error(self) -> bool:
        return 400 <= self.status_code <= 499

    @property
    def is_server_error(self) -> bool:
        return 500 <= self.status_code <= 599

    @property
    def is_error(self) -> bool:
        return 400 <= self.status_code <= 599

    async def __aenter__(self) -> AsyncFetchResponse:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Response [{self.status_code}]>"


async def fetch(
    connection: AsyncConnection,
    url: str,
    *,
    method: str,
    headers: Mapping[str, str] | None,
    redirect: Literal["follow", "manual"],
    body: ByteSource | str | None,
    timeout: float | None,
    pid: int | None,
) -> AsyncFetchResponse:
    """Makes the request, from the sandbox or to the HTTP server of one of its Deno processes."""
    abort_id = connection.next_number()
    params = {
        "url": url,
        "method": method,
        "headers": [[name, value] for name, value in (headers or {}).items()],
        "redirect": redirect,
        "abortId": abort_id,
        **optional(pid=pid),
    }
    if body is None:
        answer = await connection.call("fetch", params, timeout=timeout, abort_id=abort_id)
    else:
        data = body.encode() if isinstance(body, str) else body
        answer = await connection.call_with_body(
            "fetch", params, "bodyStreamId", data, timeout=timeout, abort_id=abort_id
        )
    body_id = answer.get("bodyStreamId")
    return AsyncFetchResponse(answer, None if body_id is None else connection.claim_stream(body_id))

"""Requests to the resource API: one place for headers, errors, time limits and retries."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from .._options import Options
from .._version import USER_AGENT
from .._wire import api_error
from ..errors import ApiConnectionError, ApiError, ApiTimeoutError, NotFoundError
from .concurrency import sleep

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 2.0
_LONGEST_ADVICE_S = 30.0
# A server checks what it was sent before it answers.
_UPLOADED_S = 600.0
# Refused before anything was done, so that any request may be sent again.
_NOT_PROCESSED = frozenset({429, 503})
# Perhaps done, perhaps not.
_PERHAPS_PROCESSED = frozenset({502, 504})


class AsyncHttp:
    """Sends requests, and sends them again when that is safe and may help.

    A request is repeated when the server cannot have acted on it (it was never reached, or answered 429 or 503), and
    also when it may have acted (the answer was lost, 502, 504) if acting twice does no harm: for reads, for deletions,
    and for creations, which carry an `Idempotency-Key` by which the server recognises the second copy.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._client = httpx.AsyncClient(
            headers={**options.headers(), "User-Agent": USER_AGENT},
            timeout=options.timeout,
            verify=options.ssl_context,
            trust_env=False,
        )

    async def get(self, url: str, params: Mapping[str, str] | None = None, *, timeout: float | None = None) -> Any:
        response = await self.request("GET", url, params=params, timeout=timeout, repeatable=True)
        return _json(response)

    async def get_or_none(self, url: str) -> Any | None:
        try:
            return await self.get(url)
        except NotFoundError:
            return None

    async def get_page(self, url: str, params: Mapping[str, str]) -> tuple[list[dict[str, Any]], str | None]:
        """One page of a listing, and the `Link` header that leads to the next."""
        response = await self.request("GET", url, params=params, repeatable=True)
        return _json(response), response.headers.get("link")

    async def post(self, url: str, body: Mapping[str, Any], *, repeatable: bool = False) -> Any:
        """Asks for a change; `repeatable` says that asking twice does no harm."""
        return _json(await self.request("POST", url, body=body, repeatable=repeatable))

    async def create(self, url: str, body: Mapping[str, Any], *, idempotency_key: str | None) -> Any:
        """Makes something; the server takes repetitions with the same key for one request."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return _json(await self.request("POST", url, body=body, headers=headers, repeatable=True))

    async def patch(self, url: str, body: Mapping[str, Any]) -> Any:
        return _json(await self.request("PATCH", url, body=body, repeatable=True))

    async def delete(self, url: str, body: Mapping[str, Any] | None = None) -> None:
        await self.request("DELETE", url, body=body, repeatable=True)

    async def close(self) -> None:
        """Closes idle connections. The client cannot be used afterwards."""
        await self._client.aclose()

    async def download(self, url: str, params: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The answer to one request, piece by piece. It is not repeated."""
        try:
            async with self._client.stream("GET", url, params=params) as response:
                if not response.is_success:
                    await response.aread()
                    raise api_error(response.status_code, response.headers, response.content)
                async for piece in response.aiter_raw():
                    yield piece
        except httpx.TransportError as problem:
            raise _transport_error(problem, "GET", url) from problem

    async def upload(self, url: str, params: Mapping[str, str], content: AsyncIterable[bytes]) -> Any:
        """Sends what there is once, at the pace of the server, and returns its answer."""
        waits = httpx.Timeout(self._options.timeout, read=_UPLOADED_S, write=_UPLOADED_S)
        try:
            response = await self._client.post(url, params=params, content=content, timeout=waits)
        except httpx.TransportError as problem:
            raise _transport_error(problem, "POST", url) from problem
        if response.is_success:
            return _json(response)
        raise api_error(response.status_code, response.headers, response.content)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        repeatable: bool,
    ) -> httpx.Response:
        """Sends one request, repeats included.

        Raises:
            ApiError: When the server refuses; a subclass for each status.
            ApiTimeoutError: When no answer came in time.
            ApiConnectionError: When the server cannot be reached or the connection broke.
        """
        attempt = 0
        may_be_done = False
        while True:
            advice: str | None = None
            try:
                response = await self._client.request(
                    method,
                    url,
                    params=params,
                    json=body,
                    headers=headers,
                    timeout=self._options.timeout if timeout is None else timeout,
                )
            except httpx.TransportError as problem:
                unsent = isinstance(problem, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
                error: Exception = _transport_error(problem, method, url)
                error.__cause__ = problem
                again = unsent or repeatable
                may_be_done = may_be_done or not unsent
            else:
                if response.is_success:
                    return response
                if response.status_code == 404 and method == "DELETE" and may_be_done:
                    return response  # An earlier copy of this request has done it; only its answer was lost.
                error = api_error(response.status_code, response.headers, response.content)
                again = response.status_code in _NOT_PROCESSED
                if response.status_code in _PERHAPS_PROCESSED:
                    again, may_be_done = repeatable, True
                advice = response.headers.get("retry-after")
            if not again or attempt >= self._options.max_retries:
                raise error
            await sleep(_delay(attempt, advice))
            attempt += 1


def path_part(text: str) -> str:
    """Makes any text one part of a path."""
    return quote(text, safe="")


def _delay(attempt: int, advice: str | None) -> float:
    """Seconds to wait: what the server advises, else doubling and random, so that clients do not return all at once."""
    if advice is not None and advice.isdigit():
        return min(float(advice), _LONGEST_ADVICE_S)
    return random.uniform(0.5, 1.0) * min(_FIRST_DELAY_S * 2**attempt, _LONGEST_DELAY_S)


def _transport_error(problem: httpx.TransportError, method: str, url: str) -> ApiConnectionError:
    what = f"{method} {url}"
    if isinstance(problem, httpx.TimeoutException):
        return ApiTimeoutError(f"{what}: no answer in time ({type(problem).__name__})")
    if isinstance(problem, httpx.ConnectError):
        return ApiConnectionError(
            f"{what}: cannot reach the server ({problem}). Check that it runs (`caisson up`) and that "
            f"the endpoint is right"
        )
    return ApiConnectionError(f"{what}: the connection broke before the answer ({problem or type(problem).__name__})")


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        request_id = response.headers.get("x-deno-trace-id")
        message = "The server's answer is not JSON. Check that the endpoint names a Caisson server"
        raise ApiError(response.status_code, "INVALID_RESPONSE_BODY", message, request_id=request_id) from None

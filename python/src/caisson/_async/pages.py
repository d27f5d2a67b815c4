"""Listings that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, TypeVar

from .._wire import next_cursor
from .http import AsyncHttp

T = TypeVar("T")


class AsyncPaginatedList(Generic[T]):
    """One page of a listing. Iterating it gives the items of this page and of all that follow.

    Attributes:
        items: The items of this page.
        next_cursor: Where the next page starts; None on the last page. It can be given as `cursor=` later.
    """

    def __init__(
        self,
        http: AsyncHttp,
        url: str,
        params: Mapping[str, str],
        from_wire: Callable[[Mapping[str, Any]], T],
        items: list[T],
        cursor: str | None,
    ) -> None:
        self._http = http
        self._url = url
        self._params = params
        self._from_wire = from_wire
        self.items = items
        self.next_cursor = cursor

    @property
    def has_more(self) -> bool:
        """Whether there is another page."""
        return self.next_cursor is not None

    async def get_next_page(self) -> AsyncPaginatedList[T] | None:
        """Fetches the next page; None after the last."""
        if self.next_cursor is None:
            return None
        params = {**self._params, "cursor": self.next_cursor}
        return await fetch_page(self._http, self._url, params, self._from_wire)

    async def __aiter__(self) -> AsyncIterator[T]:
        page: AsyncPaginatedList[T] | None = self
        while page is not None:
            for item in page.items:
                yield item
            page = await page.get_next_page()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.items)} items, has_more={self.has_more})"


async def fetch_page(
    http: AsyncHttp, url: str, params: Mapping[str, str], from_wire: Callable[[Mapping[str, Any]], T]
) -> AsyncPaginatedList[T]:
    """Fetches the page that the parameters name."""
    wire, link = await http.get_page(url, params)
    return AsyncPaginatedList(http, url, params, from_wire, [from_wire(item) for item in wire], next_cursor(link))


def list_params(
    *,
    cursor: str | None = None,
    limit: int | None = None,
    search: str | None = None,
    labels: Mapping[str, str] | None = None,
    deleted: bool = False,
) -> dict[str, str]:
    """The query of a listing."""
    params: dict[str, str] = {}
    if cursor is not None:
        params["cursor"] = cursor
    if limit is not None:
        params["limit"] = str(limit)
    if search is not None:
        params["search"] = search
    for key, value in (labels or {}).items():
        params[f"labels[{key}]"] = value
    if deleted:
        params["deleted"] = "true"
    return params

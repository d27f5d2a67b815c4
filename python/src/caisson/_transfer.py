"""What upload and download tell about their progress, and about what they left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TransferProgress:
    """How far a transfer has come.

    Attributes:
        path: The local path of the file that is being transferred.
        transferred_bytes: Bytes transferred so far, of all files.
        total_bytes: Bytes to transfer, of all files, as counted at the start.
    """

    path: str
    transferred_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class SkippedFile:
    """Something that was not transferred.

    Attributes:
        path: Where it is, on the side that it would have come from.
        reason: Why it was left out, in words.
    """

    path: str
    reason: str


Progress = Callable[[TransferProgress], None]


class Meter:
    """Counts bytes and reports them."""

    def __init__(self, total_bytes: int, report: Progress | None) -> None:
        self._total_bytes = total_bytes
        self._transferred_bytes = 0
        self._report = report
        self.skipped: list[SkippedFile] = []

    def skip(self, path: str, reason: str) -> None:
        self.skipped.append(SkippedFile(path, reason))

    def add(self, path: str, size: int) -> None:
        self._transferred_bytes += size
        if self._report is not None:
            self._report(TransferProgress(path, self._transferred_bytes, self._total_bytes))

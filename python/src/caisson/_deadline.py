"""One time limit over several waits."""

from __future__ import annotations

import time


class Deadline:
    """Ends `timeout` seconds after it was made; never, when that is None."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Seconds that are left, never below zero; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

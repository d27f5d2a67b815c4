"""Output of remote processes that is to appear in the output of this one."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Literal


def printer(name: Literal["stdout", "stderr"]) -> Callable[[bytes], None]:
    """A function that prints bytes to this process's `stdout` or `stderr`, whatever stands in their place just then."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(data: bytes) -> None:
        target = sys.stdout if name == "stdout" else sys.stderr
        # Nobody may be there to read it any more; the remote process shall not suffer from that.
        with suppress(OSError, ValueError):
            raw = getattr(target, "buffer", None)
            if raw is None:  # Notebooks and the like take only text.
                target.write(decoder.decode(data))
            else:
                raw.write(data)
            target.flush()

    return write

"""Shell commands: how they are sent, and what they return."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._records import ProcessStatus


@dataclass(frozen=True)
class CommandResult:
    """How a command ended and what it printed.

    Attributes:
        status: Its exit code, and the signal that ended it, if one did.
        stdout, stderr: Its output as bytes; None where it was not piped.
    """

    status: ProcessStatus
    stdout: bytes | None
    stderr: bytes | None

    @property
    def stdout_text(self) -> str | None:
        """The output as text, read as UTF-8."""
        return None if self.stdout is None else self.stdout.decode("utf-8", "replace")

    @property
    def stderr_text(self) -> str | None:
        """The error output as text, read as UTF-8."""
        return None if self.stderr is None else self.stderr.decode("utf-8", "replace")

    def json(self) -> Any:
        """The output read as JSON. Raises `ValueError` when it is not, or was not piped."""
        if self.stdout is None:
            raise ValueError('The output was not kept: run the command with stdout="piped"')
        return json.loads(self.stdout)


def shell_params(command: str, args: Sequence[str], *, sudo: bool) -> dict[str, Any]:
    """A line of shell as a process. The word before the arguments is `$0`, by which bash prefixes its messages."""
    text = f"sudo {command}" if sudo else command
    return {"command": "bash", "args": ["-c", text, *(["bash", *args] if args else [])]}

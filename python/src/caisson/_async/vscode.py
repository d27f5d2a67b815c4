"""The editor of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .connection import AsyncConnection, AsyncReply
from .control import AsyncSandboxControl
from .process import AsyncChildProcess, ProcessTable, end_unwanted


class AsyncVsCode(AsyncChildProcess):
    """VS Code that runs in the sandbox and is used in a browser. Leaving its `with` block ends it.

    It stays until it ends, is killed, or the sandbox ends; closing the connection does not end it.

    Attributes:
        url: Where it is reached. Everybody who knows the address can use it.
    """

    def __init__(
        self, connection: AsyncConnection, answer: Mapping[str, Any], exit_reply: AsyncReply, url: str
    ) -> None:
        # In a table of its own: closing the connection ends what is in the connection's.
        super().__init__(connection, ProcessTable([]), answer, exit_reply, None, "piped", "piped")
        self.url = url

    @property
    def _target(self) -> Mapping[str, Any]:
        return {**super()._target, **_EDITOR}


# Editors have pids of their own.
_EDITOR: Mapping[str, Any] = {"vscode": True}


async def start_editor(
    connection: AsyncConnection, control: AsyncSandboxControl, sandbox_id: str, params: Mapping[str, Any]
) -> AsyncVsCode:
    """Starts the editor and publishes it. One that cannot be published is ended, since nobody has it."""
    reply = await connection.start_call("vscode", params)
    try:
        # The sandbox gives up by itself.
        answer = await connection.finish_call(reply, timeout=None, gives_up=False)
        domain = await control.expose_vscode(sandbox_id)
        try:
            await connection.call("exposeHttp", {"domain": domain, "port": answer["port"]})
        except Exception:
            await control.revoke_http(sandbox_id, domain)
            raise
        exit_reply = await connection.start_call("processWait", {"pid": answer["pid"], **_EDITOR})
    except BaseException:
        await end_unwanted(connection, reply, _EDITOR)
        raise
    return AsyncVsCode(connection, answer, exit_reply, f"https://{domain}")

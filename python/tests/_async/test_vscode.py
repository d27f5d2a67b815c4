"""VS Code in a sandbox of a real server, with a small program in the place of code-server."""

from __future__ import annotations

import ssl

import httpx
import pytest

from caisson import AsyncCaisson, AsyncSandbox, errors
from real_server import RealServer

pytestmark = [pytest.mark.anyio, pytest.mark.server]

STAND_IN = """#!/usr/bin/env python3
import http.server, os, sys
port = next(int(word[7:]) for word in sys.argv if word.startswith("--port="))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{sys.argv[-1]} {os.environ['OWN']}".encode())
    def log_message(self, *words):
        pass
print("starting", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


async def test_the_editor_is_started_reached_and_ended(sandbox: AsyncSandbox, server: RealServer) -> None:
    await sandbox.fs.write_text_file("code-server", STAND_IN)
    await sandbox.sh("sudo install -m 755 code-server /usr/local/bin/; mkdir project")
    async with sandbox.expose_vscode(
        "/home/app/project", env={"OWN": "mine"}, editor_settings={"editor.fontSize": 7}
    ) as editor:
        url = httpx.URL(editor.url)
        assert url.scheme == "https"
        trusted = ssl.create_default_context(cafile=server.authority)
        async with httpx.AsyncClient(verify=trusted) as http:
            response = await http.get(
                url.copy_with(host="127.0.0.1"),
                headers={"Host": url.netloc.decode()},
                extensions={"sni_hostname": url.host},
            )
        assert (response.status_code, response.text) == (200, "/home/app/project mine")
        assert await editor.stdout.readline() == b"starting\n"
        settings = await sandbox.fs.read_text_file(".local/share/code-server/Machine/settings.json")
        assert "editor.fontSize" in settings
    assert editor.returncode == 143


async def test_an_editor_stays_when_its_starter_closes_the_connection(
    client: AsyncCaisson, sandbox: AsyncSandbox
) -> None:
    await sandbox.fs.write_text_file("code-server", STAND_IN)
    await sandbox.sh("sudo install -m 755 code-server /usr/local/bin/")
    async with client.sandbox.connect(sandbox.id) as other:
        await other.expose_vscode(env={"OWN": "mine"})
    assert (await sandbox.sh("pgrep -cf '^python3 .* --port='")).stdout_text == "1\n"


async def test_a_sandbox_without_an_editor_says_what_to_do(sandbox: AsyncSandbox) -> None:
    with pytest.raises(errors.NotSupported, match=r"docs/vscode\.md"):
        await sandbox.expose_vscode()

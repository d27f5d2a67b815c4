"""Processes and the Deno runtime on a real server."""

from __future__ import annotations

import hashlib

import pytest

from caisson import AsyncSandbox, errors

pytestmark = [pytest.mark.anyio, pytest.mark.server]


async def test_output_is_kept_until_it_is_read(sandbox: AsyncSandbox) -> None:
    process = await sandbox.spawn("sh", args=["-c", "echo out; echo err >&2"], stdout="piped", stderr="piped")
    assert (await process.wait()).success
    assert await process.stdout.read() == b"out\n"
    assert await process.stderr.read() == b"err\n"
    assert process.returncode == 0


async def test_output_is_printed_here_by_default(sandbox: AsyncSandbox, capfd: pytest.CaptureFixture[str]) -> None:
    process = await sandbox.spawn("sh", args=["-c", "echo Grüße; echo err >&2"])
    await process.wait()
    assert capfd.readouterr() == ("Grüße\n", "err\n")
    with pytest.raises(ValueError, match='stdout="piped"'):
        await process.stdout.read()


async def test_exit_codes_and_signals_are_reported(sandbox: AsyncSandbox) -> None:
    process = await sandbox.spawn("sh", args=["-c", "exit 42"], stdout="null", stderr="null")
    assert await process.wait() == {"success": False, "code": 42, "signal": None, "oom": None}
    process = await sandbox.spawn("sleep", args=["100"], stdout="null", stderr="null")
    assert process.returncode is None
    with pytest.raises(errors.CallTimeoutError):
        await process.wait(timeout=0.1)
    await process.kill()
    assert await process.wait() == {"success": False, "code": 143, "signal": "SIGTERM", "oom": None}
    await process.kill("SIGKILL")
    with pytest.raises(FileNotFoundError):
        await sandbox.spawn("no-such-program")


async def test_a_command_that_takes_too_long_is_killed_and_what_it_printed_is_kept(sandbox: AsyncSandbox) -> None:
    with pytest.raises(errors.CallTimeoutError) as caught:
        await sandbox.sh("echo early; echo warned >&2; sleep 4321", timeout=5)
    assert (caught.value.stdout, caught.value.stderr) == (b"early\n", b"warned\n")
    assert (await sandbox.sh("pgrep -c sleep", check=False)).stdout_text == "0\n"
    with pytest.raises(errors.CallTimeoutError) as caught:
        await sandbox.sh("echo dropped; sleep 4321", stdout="null", timeout=0.5)
    assert (caught.value.stdout, caught.value.stderr) == (None, b"")


async def test_leaving_the_block_of_a_process_ends_it(sandbox: AsyncSandbox) -> None:
    async with sandbox.spawn("yes", stdout="piped", stderr="null") as process:
        assert await process.stdout.readline() == b"y\n"
    assert process.returncode == 143
    assert (await sandbox.sh("pgrep -c yes", check=False)).stdout_text == "0\n"


async def test_a_process_that_ignores_the_request_to_end_is_ended_all_the_same(
    sandbox: AsyncSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caisson._async.process._GRACE_S", 0.3)
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    async with sandbox.spawn("bash", args=["-c", script], stdout="piped", stderr="null") as process:
        assert await process.stdout.readline() == b"ready\n"
    assert process.returncode == 137


async def test_input_comes_back_exactly(sandbox: AsyncSandbox) -> None:
    data = bytes(range(256)) * 20_000
    process = await sandbox.spawn("cat", stdin_data=data, stdout="piped", stderr="null")
    assert hashlib.sha256(await process.stdout.read()).digest() == hashlib.sha256(data).digest()
    async with sandbox.spawn("cat", stdin="piped", stdout="piped", stderr="null") as process:
        for line in (b"one\n", b"two\n"):
            await process.stdin.write(line)
            assert await process.stdout.readline() == line
        assert await process.communicate() == (b"", None)
    process = await sandbox.spawn("head", args=["-c1"], stdin_data=data, stdout="piped", stderr="null")
    assert await process.communicate() == (b"\0", None)


async def test_much_output_arrives_whole_and_in_order(sandbox: AsyncSandbox) -> None:
    process = await sandbox.spawn("seq", args=["1", "1000000"], stdout="piped", stderr="null")
    count = 0
    async for line in process.stdout:
        count += 1
        assert int(line) == count
    assert count == 1_000_000


async def test_a_line_of_shell_returns_its_output_or_raises(sandbox: AsyncSandbox) -> None:
    result = await sandbox.sh("echo '{\"aKey\": 1}'; echo oops >&2")
    assert (result.json(), result.stderr_text, result.status.code) == ({"aKey": 1}, "oops\n", 0)
    with pytest.raises(errors.SandboxCommandError, match=r"exit code 3: it broke") as caught:
        await sandbox.sh("echo it broke >&2; exit 3")
    assert (caught.value.code, caught.value.stderr) == (3, b"it broke\n")
    assert (await sandbox.sh("exit 3", check=False)).status.code == 3
    nasty = 'a b\'; rm -rf "$HOME"'
    assert (await sandbox.sh('printf %s "$1" | wc -c; printf %s "$2"', nasty, "é")).stdout_text == f"{len(nasty)}\né"
    assert (await sandbox.sh("cat; pwd", stdin_data="in ", cwd="/tmp")).stdout_text == "in /tmp\n"
    assert (await sandbox.sh("id -u", sudo=True, stderr="null")).stdout_text == "0\n"


async def test_a_command_that_takes_too_long_is_killed(sandbox: AsyncSandbox) -> None:
    with pytest.raises(errors.CallTimeoutError):
        await sandbox.sh("sleep 321", timeout=0.3)
    assert (await sandbox.sh("pgrep -fc '^sleep 321'", check=False)).stdout_text == "0\n"


async def test_deno_runs_code_and_files(sandbox: AsyncSandbox) -> None:
    code = "console.log(Deno.args.join(), Deno.env.get('MY_VAR'))"
    async with sandbox.deno.run(code=code, script_args=["a", "b"], env={"MY_VAR": "x"}, stdout="piped") as process:
        assert await process.stdout.read() == b"a,b x\n"
        assert not await process.wait_http_ready()
    await sandbox.fs.write_text_file(
        "main.ts", "new Response(Deno.stdin.readable).text().then((text: string) => console.log(text.length))"
    )
    process = await sandbox.deno.run(entrypoint="main.ts", stdin_data="12345", stdout="piped")
    assert await process.stdout.read() == b"5\n"
    with pytest.raises(ValueError, match="either entrypoint or code"):
        await sandbox.deno.run()


async def test_a_deno_server_is_reached_through_its_process(sandbox: AsyncSandbox) -> None:
    code = (
        "Deno.serve({port: 0}, (r) => r.text().then((body) => Response.json({method: r.method, body}, {status: 201})))"
    )
    async with sandbox.deno.run(code=code, stdout="null", stderr="null") as process:
        assert await process.wait_http_ready(timeout=60)
        async with await process.fetch("http://localhost/x", "POST", body="hello") as response:
            assert response.status_code == 201
            assert response.header("content-type") == "application/json"
            assert await response.json() == {"method": "POST", "body": "hello"}
        response = await process.fetch("http://localhost/x")
        assert b"".join([chunk async for chunk in response.chunks()]) == b'{"method":"GET","body":""}'


async def test_the_repl_keeps_state_and_gives_values_as_they_are(sandbox: AsyncSandbox) -> None:
    assert await sandbox.deno.eval("1 + 2") == 3
    async with sandbox.deno.repl() as repl:
        assert await repl.eval("const under_score = {someKey: [1, null], 'x-Y': true}") is None
        assert await repl.eval("under_score") == {"someKey": [1, None], "x-Y": True}
        await repl.eval("function add(a: number, b: number) { return {theSum: a + b} }")
        assert await repl.call("add", [1, 2]) == {"theSum": 3}
        assert await repl.call("(o) => Object.keys(o)", [{"snake_key": 1, "camelKey": 2}]) == ["snake_key", "camelKey"]
        with pytest.raises(errors.JsRangeError, match="too far") as caught:
            await repl.eval("throw new RangeError('too far')")
        assert isinstance(caught.value, ValueError)
    assert repl.returncode is not None


async def test_a_fetch_that_fails_is_a_type_error(sandbox: AsyncSandbox) -> None:
    with pytest.raises(errors.JsTypeError):
        await sandbox.fetch("http://localhost:9/")

"""Files in a sandbox on a real server."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from caisson import AsyncSandbox, TransferProgress, errors
from caisson._async import transfer
from caisson._async.concurrency import sleep

pytestmark = [pytest.mark.anyio, pytest.mark.server]


async def test_files_with_holes_have_them_in_both_directions(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "file").open("wb") as file:
        for position, data in [(0, b"begin"), (12_000, b"x" * 5000), (40 * 2**20 + 3, b"middle")]:
            file.seek(position)
            file.write(data)
        file.truncate(80 * 2**20 + 1)
    (source / "zeros").write_bytes(bytes(2**20))
    await sandbox.fs.upload(str(source), "holes")
    info = await sandbox.fs.stat("holes/file")
    assert (info.size, info.blocks * 512 <= 64 * 1024) == (80 * 2**20 + 1, True)
    assert (await sandbox.fs.stat("holes/zeros")).blocks * 512 >= 2**20
    await sandbox.fs.download(str(tmp_path / "back"), "holes")
    assert (tmp_path / "back/file").stat().st_blocks * 512 <= 64 * 1024
    for name in ("file", "zeros"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()


async def test_what_is_appended_during_an_upload_becomes_no_hole(
    sandbox: AsyncSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "log"
    with source.open("wb") as file:
        file.write(b"begin")
        file.truncate(2**20)
    next_data: Any = vars(transfer)["_next_data"]

    def append_at_the_end(*arguments: Any) -> Any:
        part = next_data(*arguments)
        if part is None:
            with source.open("ab") as file:
                file.write(b"appended")
        return part

    monkeypatch.setattr(transfer, "_next_data", append_at_the_end)
    await sandbox.fs.upload(str(source), "log")
    assert await sandbox.fs.read_file("log") == b"begin".ljust(2**20, b"\0")


async def test_files_hold_what_was_written(sandbox: AsyncSandbox) -> None:
    fs = sandbox.fs
    await fs.write_text_file("text", "Grüße\n")
    assert await fs.read_text_file("text") == "Grüße\n"
    await fs.write_file("bytes", bytes(range(256)))
    assert await fs.read_file("bytes") == bytes(range(256))
    await fs.write_file("bytes", b"!", append=True)
    assert (await fs.stat("bytes")).size == 257
    await fs.write_file("empty", io.BytesIO(b""))
    assert await fs.read_file("empty") == b""
    large = os.urandom(3_000_000)
    await fs.write_file("large", large, mode=0o600)
    assert hashlib.sha256(await fs.read_file("large")).digest() == hashlib.sha256(large).digest()
    assert (await fs.stat("large")).mode & 0o777 == 0o600
    text = "zeile\n" * 100_000
    await fs.write_text_file("long", text)
    assert await fs.read_text_file("long") == text
    with pytest.raises(FileExistsError):
        await fs.write_file("text", b"", create_new=True)
    with pytest.raises(FileNotFoundError):
        await fs.write_file("missing", b"", create=False)


async def test_a_file_too_large_for_one_answer_is_read_whole(sandbox: AsyncSandbox) -> None:
    await sandbox.sh("head -c 80M /dev/zero | tr '\\0' a > huge; printf '\\377z' >> huge")
    data = await sandbox.fs.read_file("huge", timeout=60)
    assert (len(data), data[-2:]) == (80 * 2**20 + 2, b"\xffz")
    text = await sandbox.fs.read_text_file("huge")
    assert (len(text), text[-2:]) == (80 * 2**20 + 2, "\ufffdz")


async def test_slow_chunks_make_a_whole_file(sandbox: AsyncSandbox) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for index in range(10):
            await sleep(0.02)
            yield bytes([index]) * 10_000

    await sandbox.fs.write_file("slow", slow())
    assert await sandbox.fs.read_file("slow") == b"".join(bytes([index]) * 10_000 for index in range(10))


async def test_errors_say_what_and_where(sandbox: AsyncSandbox) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await sandbox.fs.read_text_file("no-such-file")
    assert isinstance(caught.value, errors.NotFound)
    assert caught.value.code == "ENOENT"
    with pytest.raises(IsADirectoryError):
        await sandbox.fs.read_file("/tmp")
    with pytest.raises(NotADirectoryError):
        await sandbox.fs.read_dir("/etc/hostname")
    with pytest.raises(FileExistsError):
        await sandbox.fs.mkdir("/tmp")


async def test_directories_links_and_metadata(sandbox: AsyncSandbox) -> None:
    fs = sandbox.fs
    await fs.mkdir("d/e", recursive=True, mode=0o750)
    await fs.write_text_file("d/file", "x")
    await fs.symlink("file", "d/link")
    await fs.link("d/file", "d/hard")
    entries = {entry.name: entry for entry in await fs.read_dir("d")}
    assert set(entries) == {"e", "file", "link", "hard"}
    assert entries["link"].is_symlink
    assert entries["e"]["is_directory"]
    assert (await fs.stat("d/link")).is_file
    assert (await fs.lstat("d/link")).is_symlink
    assert (await fs.stat("d/hard")).nlink == 2
    assert await fs.read_link("d/link") == "file"
    assert await fs.real_path("d/link") == "/home/app/d/file"
    await fs.chmod("d/file", 0o640)
    await fs.chown("d/file", 12, None)
    await fs.utime("d/file", 1_000_000_000, "2020-01-02T03:04:05.678Z")
    info = await fs.stat("d/file")
    assert (info.mode & 0o777, info.uid) == (0o640, 12)
    assert (info.atime, info.mtime) == ("2001-09-09T01:46:40.000Z", "2020-01-02T03:04:05.678Z")
    await fs.copy_file("d/file", "d/copy")
    await fs.rename("d/copy", "d/renamed")
    await fs.truncate("d/renamed", 10)
    assert (await fs.stat("d/renamed")).size == 10
    with pytest.raises(OSError, match="not empty"):
        await fs.remove("d")
    await fs.remove("d", recursive=True)
    with pytest.raises(FileNotFoundError):
        await fs.stat("d")
    old = await fs.umask(0o077)
    assert await fs.umask(old) == 0o077
    directory = await fs.make_temp_dir(prefix="a-")
    file = await fs.make_temp_file(dir=directory, suffix=".txt")
    assert file.startswith(f"{directory}/")
    assert file.endswith(".txt")


async def test_open_files_read_write_seek_and_lock(sandbox: AsyncSandbox) -> None:
    async with await sandbox.fs.open("f", read=True, write=True, create=True) as file:
        assert await file.write(b"hello world") == 11
        assert await file.seek(6) == 6
        assert await file.read(100) == b"world"
        assert await file.read(100) == b""
        assert await file.seek(-5, 2) == 6
        await file.truncate(5)
        assert (await file.stat()).size == 5
        await file.sync()
        await file.sync_data()
        await file.lock(exclusive=True)
        async with await sandbox.fs.open("f") as other:
            with pytest.raises(errors.CallTimeoutError):
                await other.lock(exclusive=True, timeout=0.2)
        await file.unlock()
        await file.utime(1, 2)
        assert (await file.stat()).mtime == "1970-01-01T00:00:02.000Z"
    with pytest.raises(errors.BadResource):
        await file.read(1)
    async with await sandbox.fs.create("f") as file:
        assert (await file.stat()).size == 0


async def test_walk_and_glob_find_what_is_asked_for(sandbox: AsyncSandbox) -> None:
    fs = sandbox.fs
    for directory in ("w/src/deep", "w/node_modules/x"):
        await fs.mkdir(directory, recursive=True)
    for file in ("w/a.py", "w/src/b.py", "w/src/deep/c.txt", "w/node_modules/x/d.py"):
        await fs.write_text_file(file, "x")
    found = await fs.walk("w", include_dirs=False, exts=[".py"], skip=[re.compile("node_modules")])
    assert sorted(entry.path for entry in found) == ["w/a.py", "w/src/b.py"]
    assert all(entry.is_file for entry in found)
    matched = await fs.walk("w", match=[re.compile(r"(?P<stem>C)\.TXT\Z", re.IGNORECASE)])
    assert [entry["name"] for entry in matched] == ["c.txt"]
    assert [entry.path for entry in await fs.walk("w", max_depth=0)] == ["w"]
    assert await fs.expand_glob("w/**/*.py", exclude=["**/node_modules"]) == [
        "/home/app/w/a.py",
        "/home/app/w/src/b.py",
    ]
    assert await fs.expand_glob("nothing/*.here") == []
    with pytest.raises(FileNotFoundError):
        await fs.walk("no-such-directory")


async def test_trees_come_back_as_they_went_with_progress(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub dir").mkdir(parents=True)
    (source / "big").write_bytes(os.urandom(2_000_000))
    (source / "sub dir" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (source / "sub dir" / "run.sh").chmod(0o755)
    (source / "link").symlink_to("sub dir/run.sh")
    (source / "empty").touch()
    reports: list[TransferProgress] = []
    await sandbox.fs.upload(str(source), "tree", progress=reports.append)
    total = 2_000_000 + len("#!/bin/sh\necho ran\n")
    assert (reports[-1].transferred_bytes, reports[-1].total_bytes) == (total, total)
    assert [report.transferred_bytes for report in reports] == sorted(report.transferred_bytes for report in reports)
    assert (await sandbox.sh("./tree/link")).stdout_text == "ran\n"
    reports.clear()
    await sandbox.fs.download(str(target), "tree", progress=reports.append)
    assert (reports[-1].transferred_bytes, reports[-1].total_bytes) == (total, total)
    assert (target / "big").read_bytes() == (source / "big").read_bytes()
    assert (target / "sub dir" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "link").readlink() == Path("sub dir/run.sh")
    assert (target / "empty").read_bytes() == b""
    await sandbox.fs.download(str(tmp_path / "one"), "tree/empty")
    assert (tmp_path / "one").exists()
    with pytest.raises(FileNotFoundError):
        await sandbox.fs.upload(str(tmp_path / "none"), "x")


async def test_a_tree_may_be_uploaded_again(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "fixed").write_text("same")
    (tmp_path / "sub" / "fixed").chmod(0o444)
    (tmp_path / "sub").chmod(0o555)
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text)
        assert await sandbox.fs.upload(str(tmp_path), "again") == []
        assert await sandbox.fs.read_text_file("again/link") == text
    await sandbox.fs.remove("again/link")
    await sandbox.fs.mkdir("again/link")
    with pytest.raises(errors.AlreadyExists):
        await sandbox.fs.upload(str(tmp_path), "again")
    (tmp_path / "sub").chmod(0o755)


async def test_what_cannot_be_copied_is_left_out_and_named(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "file").write_text("here")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    skipped = await sandbox.fs.upload(str(source), "special")
    assert sorted((os.path.basename(item.path), item.reason) for item in skipped) == [
        ("pipe", "it is a named pipe, a socket or a device"),
        ("socket", "it is a named pipe, a socket or a device"),
    ]
    assert [entry.name for entry in await sandbox.fs.read_dir("special")] == ["file"]
    with pytest.raises(ValueError, match="named pipe"):
        await sandbox.fs.upload(str(source / "pipe"), "pipe")

    await sandbox.sh("mkfifo special/pipe && mkdir special/sub && touch special/sub/last")
    skipped = await sandbox.fs.download(str(target), "special")
    assert [item.path for item in skipped] == ["special/pipe"]
    assert sorted(path.name for path in target.rglob("*")) == ["file", "last", "sub"]
    with pytest.raises(ValueError, match="named pipe"):
        await sandbox.fs.download(str(tmp_path / "pipe"), "special/pipe")


async def test_names_that_are_not_utf_8_are_copied_and_can_be_used(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "directory-\udcff").mkdir()
    (source / "directory-\udcff/caf\udce9").write_text("inside")
    (source / "link-\udcfe").symlink_to("directory-\udcff")
    assert await sandbox.fs.upload(str(source), "raw") == []
    assert await sandbox.fs.read_text_file("raw/link-\udcfe/caf\udce9") == "inside"
    entries = await sandbox.fs.walk("raw")
    assert {entry.path for entry in entries} == {
        "raw",
        "raw/directory-\udcff",
        "raw/directory-\udcff/caf\udce9",
        "raw/link-\udcfe",
    }
    assert await sandbox.fs.expand_glob("raw/*/caf*") == ["/home/app/raw/directory-\udcff/caf\udce9"]
    assert await sandbox.fs.download(str(tmp_path / "back"), "raw") == []
    assert (tmp_path / "back/directory-\udcff/caf\udce9").read_text() == "inside"
    assert os.readlink(tmp_path / "back/link-\udcfe") == "directory-\udcff"
    await sandbox.fs.remove("raw/directory-\udcff", recursive=True)
    assert [entry.name for entry in await sandbox.fs.read_dir("raw")] == ["link-\udcfe"]


async def test_a_download_does_not_follow_a_link_that_an_earlier_one_left(
    sandbox: AsyncSandbox, tmp_path: Path
) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.write_text("safe")
    await sandbox.fs.mkdir("trap")
    await sandbox.fs.symlink(str(outside), "trap/file")
    await sandbox.fs.download(str(target), "trap")
    await sandbox.fs.remove("trap/file")
    await sandbox.fs.write_text_file("trap/file", "evil")
    await sandbox.fs.download(str(target), "trap")
    assert outside.read_text() == "safe"
    assert (target / "file").read_text() == "evil"

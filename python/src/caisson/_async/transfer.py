"""Whole trees in and out of a sandbox."""

# Holes are this package's own business: the methods for them are no part of what users see of a file.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO

from .._records import FileInfo
from .._transfer import Meter, Progress, SkippedFile
from ..errors import AlreadyExists, NotFound
from .concurrency import in_thread
from .file import READ_BYTES

if TYPE_CHECKING:
    from .fs import AsyncSandboxFs


# What can only be reached through its own system: copying it would wait for ever, or make no sense on the other side.
_SPECIAL = "it is a named pipe, a socket or a device"
# No hole is smaller, on nearly all file systems.
_HOLE_BYTES = 4096


async def upload(
    fs: AsyncSandboxFs, local_path: str, sandbox_path: str, progress: Progress | None
) -> list[SkippedFile]:
    """Copies a local file, tree or link into the sandbox. Raises `FileNotFoundError` when there is none."""
    if not _is_copyable((await in_thread(os.lstat, local_path)).st_mode):
        raise ValueError(f"Cannot upload {local_path!r}: {_SPECIAL}")
    meter = Meter(await in_thread(_local_size, local_path), progress)
    await _upload(fs, local_path, sandbox_path, meter)
    return meter.skipped


async def _upload(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, meter: Meter) -> None:
    info = await in_thread(os.lstat, local_path)
    if stat.S_ISLNK(info.st_mode):
        await _place_link(fs, await in_thread(_read_link, local_path), sandbox_path)
    elif stat.S_ISDIR(info.st_mode):
        await fs.mkdir(sandbox_path, recursive=True)
        for name in await in_thread(_names, local_path):
            await _upload(fs, os.path.join(local_path, name), f"{sandbox_path.rstrip('/')}/{name}", meter)
        # At last, so that a directory which forbids writing can be filled.
        await fs.chmod(sandbox_path, stat.S_IMODE(info.st_mode))
    elif stat.S_ISREG(info.st_mode):
        if _has_holes(info.st_size, getattr(info, "st_blocks", None)):
            await _upload_sparsely(fs, local_path, sandbox_path, meter)
        else:
            await fs.write_file(sandbox_path, _local_chunks(local_path, meter))
        await fs.chmod(sandbox_path, stat.S_IMODE(info.st_mode))
    else:
        meter.skip(local_path, _SPECIAL)


async def _place_link(fs: AsyncSandboxFs, target: str, path: str) -> None:
    """Makes a link, in place of a link or file that an earlier upload may have put there."""
    try:
        await fs.symlink(target, path)
    except AlreadyExists:
        if (await fs.lstat(path)).is_directory:
            raise
        await fs.remove(path)
        await fs.symlink(target, path)


async def _local_chunks(path: str, meter: Meter) -> AsyncIterator[bytes]:
    file = await in_thread(_open, path)
    try:
        while chunk := await in_thread(file.read, READ_BYTES):
            yield chunk
            meter.add(path, len(chunk))
    finally:
        file.close()


async def _upload_sparsely(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, meter: Meter) -> None:
    """Copies a file with its holes, which are neither read nor sent."""
    source = await in_thread(_open, local_path)
    try:
        async with await fs.open(sandbox_path, write=True, create=True, truncate=True) as target:
            # What is appended meanwhile is left out, so that it does not become a hole.
            size = (await in_thread(os.fstat, source.fileno())).st_size
            position = 0
            while (part := await in_thread(_next_data, source, position, size)) is not None:
                start, data = part
                if start != position:
                    await target.seek(start)
                await target._write_sparsely(data)
                meter.add(local_path, start + len(data) - position)
                position = start + len(data)
            size = min(size, (await in_thread(os.fstat, source.fileno())).st_size)
            await target.truncate(size)
            meter.add(local_path, max(0, size - position))
    finally:
        source.close()


async def download(
    fs: AsyncSandboxFs, local_path: str, sandbox_path: str, progress: Progress | None
) -> list[SkippedFile]:
    """Copies a file, tree or link out of the sandbox."""
    info = await fs.lstat(sandbox_path)
    if not (info.is_symlink or info.is_directory or info.is_file):
        raise ValueError(f"Cannot download {sandbox_path!r}: {_SPECIAL}")
    total_bytes = info.size if info.is_file else 0
    if info.is_directory and progress is not None:
        for entry in await fs.walk(sandbox_path, include_dirs=False, include_symlinks=False):
            total_bytes += (await fs.lstat(entry.path)).size
    meter = Meter(total_bytes, progress)
    await _download(fs, local_path, sandbox_path, info, meter)
    return meter.skipped


async def _download(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, info: FileInfo, meter: Meter) -> None:
    mode = stat.S_IMODE(info.mode)
    if info.is_symlink:
        await in_thread(_make_link, await fs.read_link(sandbox_path), local_path)
    elif info.is_directory:
        await in_thread(_make_directory, local_path)
        for entry in await fs.read_dir(sandbox_path):
            source = f"{sandbox_path.rstrip('/')}/{entry.name}"
            target = os.path.join(local_path, _safe_name(entry.name))
            try:
                found = await fs.lstat(source)
            except NotFound:
                meter.skip(source, "it is gone")
                continue
            await _download(fs, target, source, found, meter)
        await in_thread(os.chmod, local_path, mode)
    elif info.is_file:
        await _download_file(fs, local_path, sandbox_path, _has_holes(info.size, info.blocks), meter)
        await in_thread(os.chmod, local_path, mode)
    else:
        meter.skip(sandbox_path, _SPECIAL)


async def _download_file(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, has_holes: bool, meter: Meter) -> None:
    async with await fs.open(sandbox_path, read=True) as source:
        # Never written through a link that lies at the target, which an earlier download may have put there.
        target = await in_thread(_create, local_path)
        try:
            if has_holes:
                while (part := await source._read_sparsely(READ_BYTES)) is not None:
                    zeros, chunk = part
                    await in_thread(_write_after_hole, target, zeros, chunk)
                    meter.add(local_path, zeros + len(chunk))
                await in_thread(target.truncate)
            else:
                while chunk := await source.read(READ_BYTES):
                    await in_thread(target.write, chunk)
                    meter.add(local_path, len(chunk))
        finally:
            await in_thread(target.close)


def _local_size(path: str) -> int:
    info = os.lstat(path)
    if stat.S_ISDIR(info.st_mode):
        return sum(_local_size(os.path.join(path, name)) for name in os.listdir(path))
    return info.st_size if stat.S_ISREG(info.st_mode) else 0


def _is_copyable(mode: int) -> bool:
    return stat.S_ISLNK(mode) or stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def _read_link(path: str) -> str:
    return os.readlink(path)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")


def _has_holes(size: int, blocks: int | None) -> bool:
    """Whether a file has less room than its size. Blocks are of 512 bytes; Windows does not tell."""
    return blocks is not None and blocks * 512 < size


def _next_data(file: BinaryIO, position: int, size: int) -> tuple[int, bytes] | None:
    """Where the next data before a size is, as much as one message takes; None: only a hole follows."""
    if not hasattr(os, "SEEK_DATA"):
        # Neither macOS's Python before 3.12 nor Windows can tell; there all is data, and zeros are left out inside.
        data = os.pread(file.fileno(), min(READ_BYTES, size - position), position)
        return (position, data) if data else None
    try:
        start = os.lseek(file.fileno(), position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    if start >= size:
        return None
    end = min(os.lseek(file.fileno(), start, os.SEEK_HOLE), start + READ_BYTES, size)
    data = os.pread(file.fileno(), end - start, start)
    return (start, data) if data else None


def _write_after_hole(file: BinaryIO, zeros: int, data: bytes) -> None:
    """Writes, leaving a hole before and where a block is all zeros."""
    file.seek(zeros, os.SEEK_CUR)
    for start in range(0, len(data), _HOLE_BYTES):
        block = data[start : start + _HOLE_BYTES]
        if any(block):
            file.write(block)
        else:
            file.seek(len(block), os.SEEK_CUR)


def _names(path: str) -> list[str]:
    return sorted(os.listdir(path))


def _safe_name(name: str) -> str:
    """Refuses a name by which a hostile sandbox could reach outside of the target directory."""
    if name in ("", ".", "..") or "/" in name or os.sep in name or "\0" in name:
        raise ValueError(f"The sandbox lists an entry with the impossible name {name!r}; the download was stopped")
    return name


def _make_link(target: str, path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(target, path)


def _make_directory(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    os.makedirs(path, exist_ok=True)
    # Writable for us until it is filled; its own permissions come afterwards.
    os.chmod(path, 0o700)


def _create(path: str) -> BinaryIO:
    if os.path.islink(path):
        os.unlink(path)
    return open(path, "wb")

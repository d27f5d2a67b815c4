"""Whole trees in and out of a sandbox."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO

from .._records import FileInfo
from .._transfer import Meter, Progress
from .concurrency import in_thread
from .file import READ_BYTES

if TYPE_CHECKING:
    from .fs import AsyncSandboxFs


async def upload(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, progress: Progress | None) -> None:
    """Copies a local file, tree or link into the sandbox. Raises `FileNotFoundError` when there is none."""
    total_bytes = await in_thread(_local_size, local_path)
    await _upload(fs, local_path, sandbox_path, Meter(total_bytes, progress))


async def _upload(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, meter: Meter) -> None:
    info = await in_thread(os.lstat, local_path)
    if stat.S_ISLNK(info.st_mode):
        await fs.symlink(await in_thread(_read_link, local_path), sandbox_path)
    elif stat.S_ISDIR(info.st_mode):
        await fs.mkdir(sandbox_path, recursive=True)
        for name in await in_thread(_names, local_path):
            await _upload(fs, os.path.join(local_path, name), f"{sandbox_path.rstrip('/')}/{name}", meter)
        # At last, so that a directory which forbids writing can be filled.
        await fs.chmod(sandbox_path, stat.S_IMODE(info.st_mode))
    elif stat.S_ISREG(info.st_mode):
        await fs.write_file(sandbox_path, _local_chunks(local_path, meter))
        await fs.chmod(sandbox_path, stat.S_IMODE(info.st_mode))
    else:
        raise ValueError(f"Cannot upload {local_path!r}: it is not a file, a directory or a symbolic link")


async def _local_chunks(path: str, meter: Meter) -> AsyncIterator[bytes]:
    file = await in_thread(_open, path)
    try:
        while chunk := await in_thread(file.read, READ_BYTES):
            yield chunk
            meter.add(path, len(chunk))
    finally:
        file.close()


async def download(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, progress: Progress | None) -> None:
    """Copies a file, tree or link out of the sandbox."""
    info = await fs.lstat(sandbox_path)
    total_bytes = info.size if info.is_file else 0
    if info.is_directory and progress is not None:
        for entry in await fs.walk(sandbox_path, include_dirs=False, include_symlinks=False):
            total_bytes += (await fs.lstat(entry.path)).size
    await _download(fs, local_path, sandbox_path, info, Meter(total_bytes, progress))


async def _download(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, info: FileInfo, meter: Meter) -> None:
    mode = stat.S_IMODE(info.mode)
    if info.is_symlink:
        await in_thread(_make_link, await fs.read_link(sandbox_path), local_path)
    elif info.is_directory:
        await in_thread(_make_directory, local_path)
        for entry in await fs.read_dir(sandbox_path):
            source = f"{sandbox_path.rstrip('/')}/{entry.name}"
            target = os.path.join(local_path, _safe_name(entry.name))
            await _download(fs, target, source, await fs.lstat(source), meter)
        await in_thread(os.chmod, local_path, mode)
    elif info.is_file:
        await _download_file(fs, local_path, sandbox_path, meter)
        await in_thread(os.chmod, local_path, mode)
    else:
        raise ValueError(f"Cannot download {sandbox_path!r}: it is not a file, a directory or a symbolic link")


async def _download_file(fs: AsyncSandboxFs, local_path: str, sandbox_path: str, meter: Meter) -> None:
    async with await fs.open(sandbox_path, read=True) as source:
        # Never written through a link that lies at the target, which an earlier download may have put there.
        target = await in_thread(_create, local_path)
        try:
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


def _read_link(path: str) -> str:
    return os.readlink(path)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")


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

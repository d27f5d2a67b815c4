"""The file system of a sandbox."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from .._records import DirEntry, FileInfo, WalkEntry
from .._transfer import Progress, SkippedFile
from .._wire import js_regex
from ..errors import SandboxOSError
from .concurrency import ByteSource
from .connection import DEFAULT_TIMEOUT, AsyncConnection, optional
from .file import READ_BYTES, AsyncFsFile, wire_time
from .streams import CHUNK_BYTES
from .transfer import download, upload


class AsyncSandboxFs:
    """`sandbox.fs`. Paths are absolute or relative to `/home/app`.

    Every method raises the `SandboxError` subclass that fits, for example `errors.NotFound`, which is also a
    `FileNotFoundError`.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def read_file(self, path: str, *, timeout: float | None = None) -> bytes:
        """Reads a whole file.

        Args:
            path: The file.
            timeout: Seconds to wait for each answer; a file of more than about 70 MiB takes several. Default: the
                client's `call_timeout`.
        """
        try:
            return base64.b64decode(await self._abortable("readFile", {"path": path}, timeout))
        except SandboxOSError as error:
            if error.code != "EFBIG":
                raise
        # Too large for one answer.
        parts: list[bytes] = []
        async with await self.open(path, read=True) as file:
            while part := await file.read(READ_BYTES):
                parts.append(part)
        return b"".join(parts)

    async def read_text_file(self, path: str, *, timeout: float | None = None) -> str:
        """Reads a whole file as UTF-8 text; invalid bytes become U+FFFD. The options are those of `read_file`."""
        try:
            return await self._abortable("readTextFile", {"path": path}, timeout)
        except SandboxOSError as error:
            if error.code != "EFBIG":
                raise
        return (await self.read_file(path, timeout=timeout)).decode("utf-8", "replace")

    async def write_file(
        self,
        path: str,
        data: ByteSource,
        *,
        create: bool | None = None,
        append: bool | None = None,
        create_new: bool | None = None,
        mode: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Writes a file, replacing what it held.

        Args:
            path: The file.
            data: Bytes, an open binary file, or an iterable of bytes, which is sent as it comes.
            create: Whether to make the file when it is missing. Default: True.
            append: Whether to write behind what the file holds. Default: False.
            create_new: Whether to refuse a file that exists. Default: False.
            mode: Permission bits for the file, for example 0o755.
            timeout: Seconds to wait for the answer after everything was sent. Default: the client's `call_timeout`.
        """
        options = optional(create=create, append=append, createNew=create_new, mode=mode)
        params = {"path": path, **optional(options=options or None)}
        if isinstance(data, (bytes, bytearray, memoryview)) and len(data) <= CHUNK_BYTES:
            params["content"] = base64.b64encode(data).decode("ascii")
            await self._abortable("writeFile", params, timeout)
        else:
            await self._stream_content("writeFile", params, data, timeout)

    async def write_text_file(
        self,
        path: str,
        content: str,
        *,
        create: bool | None = None,
        append: bool | None = None,
        create_new: bool | None = None,
        mode: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Writes text as UTF-8; the options are those of `write_file`."""
        options = optional(create=create, append=append, createNew=create_new, mode=mode)
        params = {"path": path, **optional(options=options or None)}
        if len(content) <= CHUNK_BYTES:
            await self._abortable("writeTextFile", {**params, "content": content}, timeout)
        else:
            await self._stream_content("writeTextFile", params, content.encode(), timeout)

    async def read_dir(self, path: str) -> list[DirEntry]:
        """The entries of a directory, in no particular order."""
        return [DirEntry.from_wire(entry) for entry in await self._call("readDir", path=path, escapeNames=True)]

    async def mkdir(self, path: str, *, recursive: bool | None = None, mode: int | None = None) -> None:
        """Makes a directory.

        Args:
            path: The directory.
            recursive: Whether to make missing parents too, and accept one that exists. Default: False.
            mode: Permission bits. Default: 0o777, less the umask.
        """
        await self._call("mkdir", path=path, options=optional(recursive=recursive, mode=mode))

    async def remove(self, path: str, *, recursive: bool | None = None) -> None:
        """Removes a file or directory; one that is not empty only with `recursive`."""
        await self._call("remove", path=path, options=optional(recursive=recursive))

    async def rename(self, old_path: str, new_path: str) -> None:
        """Renames or moves a file or directory within one file system, replacing a file of the new name."""
        await self._call("rename", oldPath=old_path, newPath=new_path)

    async def copy_file(self, from_path: str, to_path: str) -> None:
        """Copies the content and permissions of a file, replacing the target."""
        await self._call("copyFile", fromPath=from_path, toPath=to_path)

    async def stat(self, path: str) -> FileInfo:
        """What the file system says about a file; symbolic links are followed."""
        return FileInfo.from_wire(await self._call("stat", path=path))

    async def lstat(self, path: str) -> FileInfo:
        """What the file system says about a file, or about a symbolic link itself."""
        return FileInfo.from_wire(await self._call("lstat", path=path))

    async def chmod(self, path: str, mode: int) -> None:
        """Sets the permission bits of a file, for example 0o644."""
        await self._call("chmod", path=path, mode=mode)

    async def chown(self, path: str, uid: int | None = None, gid: int | None = None) -> None:
        """Sets the owner and the group of a file; None leaves one as it is."""
        await self._call("chown", path=path, uid=uid, gid=gid)

    async def link(self, target: str, path: str) -> None:
        """Makes `path` another name of the file `target`."""
        await self._call("link", target=target, path=path)

    async def symlink(self, target: str, path: str, *, type: Literal["file", "dir", "junction"] | None = None) -> None:
        """Makes `path` a symbolic link to `target`. The type means nothing on Linux."""
        await self._call("symlink", target=target, path=path, options=optional(type=type))

    async def read_link(self, path: str) -> str:
        """The text of a symbolic link."""
        return await self._call("readLink", path=path)

    async def real_path(self, path: str) -> str:
        """The absolute path with all symbolic links resolved."""
        return await self._call("realPath", path=path)

    async def truncate(self, name: str, length: int | None = None) -> None:
        """Cuts a file to `length` bytes, or extends it with zeros. Default: 0."""
        await self._call("truncate", name=name, length=length or 0)

    async def utime(self, path: str, atime: str | float | datetime, mtime: str | float | datetime) -> None:
        """Sets the times of last access and modification: seconds since 1970, points in time, or ISO 8601 texts."""
        await self._call("utime", path=path, atime=wire_time(atime), mtime=wire_time(mtime))

    async def umask(self, mask: int | None = None) -> int:
        """The permission bits that new files do not get; sets them when `mask` is given. Returns the old ones."""
        return await self._connection.call("umask", optional(mask=mask))

    async def make_temp_dir(
        self, *, dir: str | None = None, prefix: str | None = None, suffix: str | None = None
    ) -> str:
        """Makes a new directory, by default in `/tmp`, and returns its path."""
        return await self._call("makeTempDir", options=optional(dir=dir, prefix=prefix, suffix=suffix))

    async def make_temp_file(
        self, *, dir: str | None = None, prefix: str | None = None, suffix: str | None = None
    ) -> str:
        """Makes a new empty file, by default in `/tmp`, and returns its path."""
        return await self._call("makeTempFile", options=optional(dir=dir, prefix=prefix, suffix=suffix))

    async def walk(
        self,
        path: str,
        *,
        max_depth: int | None = None,
        include_files: bool | None = None,
        include_dirs: bool | None = None,
        include_symlinks: bool | None = None,
        follow_symlinks: bool | None = None,
        canonicalize: bool | None = None,
        exts: list[str] | None = None,
        match: list[re.Pattern[str]] | None = None,
        skip: list[re.Pattern[str]] | None = None,
    ) -> list[WalkEntry]:
        """Lists a directory tree, the directory itself first.

        Args:
            path: The directory.
            max_depth: 0 for the directory alone, 1 for its children too, and so on. Default: no limit.
            include_files: Whether to list files. Default: True.
            include_dirs: Whether to list directories. Default: True.
            include_symlinks: Whether to list symbolic links. Default: True.
            follow_symlinks: Whether to list what links lead to, instead of the links. Default: False.
            canonicalize: Whether followed links appear under their real paths. Default: True.
            exts: Only paths that end with one of these, for example [".ts", ".js"].
            match: Only paths in which one of these patterns is found. They are evaluated in the sandbox, as
                JavaScript; `ValueError` for what cannot be translated.
            skip: No paths in which one of these is found, and nothing below such a directory.
        """
        options = optional(
            maxDepth=max_depth,
            includeFiles=include_files,
            includeDirs=include_dirs,
            includeSymlinks=include_symlinks,
            followSymlinks=follow_symlinks,
            canonicalize=canonicalize,
            exts=exts,
            match=None if match is None else [js_regex(pattern) for pattern in match],
            skip=None if skip is None else [js_regex(pattern) for pattern in skip],
        )
        return await self._entries("walk", {"path": path, "escapeNames": True, **options})

    async def expand_glob(
        self,
        glob: str,
        *,
        root: str | None = None,
        exclude: list[str] | None = None,
        include_dirs: bool | None = None,
        follow_symlinks: bool | None = None,
        canonicalize: bool | None = None,
        extended: bool | None = None,
        globstar: bool | None = None,
        case_insensitive: bool | None = None,
    ) -> list[str]:
        """Lists the paths that fit a pattern such as `src/**/*.py`, absolute and sorted.

        Args:
            glob: The pattern.
            root: The directory that a relative pattern starts from. Default: the default directory.
            exclude: Patterns of paths to leave out.
            include_dirs: Whether to list directories. Default: True.
            follow_symlinks: Whether to follow symbolic links. Default: False.
            canonicalize: Whether followed links appear under their real paths. Default: True.
            extended: Whether `+(a|b)` and the like have their meaning. Default: True.
            globstar: Whether `**` matches any number of directories. Default: True.
            case_insensitive: Whether upper and lower case are the same. Default: False.
        """
        options = optional(
            root=root,
            exclude=exclude,
            includeDirs=include_dirs,
            followSymlinks=follow_symlinks,
            canonicalize=canonicalize,
            extended=extended,
            globstar=globstar,
            caseInsensitive=case_insensitive,
        )
        return [
            entry.path for entry in await self._entries("expandGlob", {"glob": glob, "escapeNames": True, **options})
        ]

    async def create(self, path: str) -> AsyncFsFile:
        """Makes a file, or empties it, and opens it for reading and writing."""
        answer = await self._call("create", path=path)
        return AsyncFsFile(self._connection, answer["fileHandleId"])

    async def open(
        self,
        path: str,
        *,
        read: bool | None = None,
        write: bool | None = None,
        append: bool | None = None,
        truncate: bool | None = None,
        create: bool | None = None,
        create_new: bool | None = None,
        mode: int | None = None,
    ) -> AsyncFsFile:
        """Opens a file; for reading only, unless an option says otherwise.

        Args:
            path: The file.
            read: For reading.
            write: For writing.
            append: For writing behind what the file holds.
            truncate: Empty the file.
            create: Make the file when it is missing.
            create_new: Make the file, and refuse one that exists.
            mode: Permission bits for a file that is made. Default: 0o666, less the umask.
        """
        options = optional(
            read=read,
            write=write,
            append=append,
            truncate=truncate,
            create=create,
            createNew=create_new,
            mode=mode,
        )
        answer = await self._call("open", path=path, options=options)
        return AsyncFsFile(self._connection, answer["fileHandleId"])

    async def upload(
        self, local_path: str, sandbox_path: str, *, progress: Progress | None = None
    ) -> list[SkippedFile]:
        """Copies a local file, directory tree or symbolic link into the sandbox. May be repeated on the same target.

        Args:
            local_path: What to copy. Symbolic links are copied as links, permissions are kept.
            sandbox_path: What it is called there.
            progress: Called with a `TransferProgress` after each piece.

        Returns:
            What was left out of a tree: named pipes, sockets and devices.

        Raises:
            ValueError: When `local_path` itself is of such a kind.
        """
        return await upload(self, local_path, sandbox_path, progress)

    async def download(
        self, local_path: str, sandbox_path: str, *, progress: Progress | None = None
    ) -> list[SkippedFile]:
        """Copies a file, directory tree or symbolic link out of the sandbox.

        Args:
            local_path: What it is called here. Note the order: the local path comes first, as in `upload`.
            sandbox_path: What to copy. Symbolic links are copied as links, permissions are kept.
            progress: Called with a `TransferProgress` after each piece.

        Returns:
            What was left out of a tree, as with `upload`.

        Raises:
            ValueError: When `sandbox_path` itself is of such a kind.
        """
        return await download(self, local_path, sandbox_path, progress)

    async def _call(self, method: str, **params: Any) -> Any:
        if params.get("options") == {}:
            del params["options"]
        return await self._connection.call(method, params)

    async def _abortable(self, method: str, params: Mapping[str, Any], timeout: float | None) -> Any:
        abort_id = self._connection.next_number()
        limit = DEFAULT_TIMEOUT if timeout is None else timeout
        return await self._connection.call(method, {**params, "abortId": abort_id}, timeout=limit, abort_id=abort_id)

    async def _stream_content(
        self, method: str, params: Mapping[str, Any], data: ByteSource, timeout: float | None
    ) -> None:
        abort_id = self._connection.next_number()
        limit = DEFAULT_TIMEOUT if timeout is None else timeout
        await self._connection.call_with_body(
            method, {**params, "abortId": abort_id}, "contentStreamId", data, timeout=limit, abort_id=abort_id
        )

    async def _entries(self, method: str, params: Mapping[str, Any]) -> list[WalkEntry]:
        answer = await self._connection.call(method, params)
        stream = self._connection.claim_stream(answer["streamId"])
        # Each chunk is one entry: they are objects written one after the other, with nothing between them.
        text = (await stream.read()).decode()
        decoder, position, entries = json.JSONDecoder(), 0, list[WalkEntry]()
        while position < len(text):
            entry, position = decoder.raw_decode(text, position)
            entries.append(WalkEntry.from_wire(entry))
        return entries

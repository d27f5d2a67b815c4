"""Caisson: persistent sandboxes, volumes and snapshots.

`Caisson` is the synchronous client, `AsyncCaisson` the asynchronous one; they offer the same. `DenoDeploy` and
`AsyncDenoDeploy` are other names of them, for code that was written for the `deno_sandbox` package.
"""

from . import errors
from ._async.client import AsyncCaisson
from ._async.deno import AsyncDenoProcess, AsyncDenoRepl
from ._async.fetch import AsyncFetchResponse
from ._async.file import AsyncFsFile
from ._async.pages import AsyncPaginatedList
from ._async.process import AsyncChildProcess
from ._async.sandbox import AsyncSandbox
from ._async.streams import AsyncByteSink, AsyncByteStream
from ._async.vscode import AsyncVsCode
from ._command import CommandResult
from ._records import (
    Backup,
    BackupOverview,
    CreatedBackup,
    CreatedJoinToken,
    CreatedPreview,
    Descendant,
    DirEntry,
    FileInfo,
    JoinToken,
    KeyRotation,
    KeyRotationStatus,
    Mount,
    Node,
    NodeAuthority,
    NodeLoss,
    Parent,
    Pool,
    PoolDisk,
    Preview,
    ProcessStatus,
    Record,
    Reference,
    Replication,
    SandboxMeta,
    SecretConfig,
    Snapshot,
    SnapshotFetch,
    SnapshotStoreStatus,
    SnapshotVerification,
    SshAccess,
    SshEndpoint,
    SshKey,
    VerifiedPart,
    Volume,
    VolumeError,
    VolumeSchedule,
    WalkEntry,
)
from ._sync.client import Caisson
from ._sync.deno import DenoProcess, DenoRepl
from ._sync.fetch import FetchResponse
from ._sync.file import FsFile
from ._sync.pages import PaginatedList
from ._sync.process import ChildProcess
from ._sync.sandbox import Sandbox
from ._sync.streams import ByteSink, ByteStream
from ._sync.vscode import VsCode
from ._transfer import SkippedFile, TransferProgress
from ._version import __version__
from .errors import (
    ApiError,
    AuthenticationError,
    CaissonError,
    CallTimeoutError,
    ConflictError,
    ConnectionClosedError,
    NotFoundError,
    RpcError,
    SandboxCommandError,
    SandboxError,
)

DenoDeploy = Caisson
AsyncDenoDeploy = AsyncCaisson

__all__ = [
    "ApiError",
    "AsyncByteSink",
    "AsyncByteStream",
    "AsyncCaisson",
    "AsyncChildProcess",
    "AsyncDenoDeploy",
    "AsyncDenoProcess",
    "AsyncDenoRepl",
    "AsyncFetchResponse",
    "AsyncFsFile",
    "AsyncPaginatedList",
    "AsyncSandbox",
    "AsyncVsCode",
    "AuthenticationError",
    "Backup",
    "BackupOverview",
    "ByteSink",
    "ByteStream",
    "Caisson",
    "CaissonError",
    "CallTimeoutError",
    "ChildProcess",
    "CommandResult",
    "ConflictError",
    "ConnectionClosedError",
    "CreatedBackup",
    "CreatedJoinToken",
    "CreatedPreview",
    "DenoDeploy",
    "DenoProcess",
    "DenoRepl",
    "Descendant",
    "DirEntry",
    "FetchResponse",
    "FileInfo",
    "FsFile",
    "JoinToken",
    "KeyRotation",
    "KeyRotationStatus",
    "Mount",
    "Node",
    "NodeAuthority",
    "NodeLoss",
    "NotFoundError",
    "PaginatedList",
    "Parent",
    "Pool",
    "PoolDisk",
    "Preview",
    "ProcessStatus",
    "Record",
    "Reference",
    "Replication",
    "RpcError",
    "Sandbox",
    "SandboxCommandError",
    "SandboxError",
    "SandboxMeta",
    "SecretConfig",
    "SkippedFile",
    "Snapshot",
    "SnapshotFetch",
    "SnapshotStoreStatus",
    "SnapshotVerification",
    "SshAccess",
    "SshEndpoint",
    "SshKey",
    "TransferProgress",
    "VerifiedPart",
    "Volume",
    "VolumeError",
    "VolumeSchedule",
    "VsCode",
    "WalkEntry",
    "__version__",
    "errors",
]

"""The plain data that calls return: dictionaries whose keys are attributes too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict


class Record(dict[str, Any]):
    """A dictionary whose keys can be read as attributes: `volume["slug"]` and `volume.slug` are the same.

    Keys that a newer server adds are there too. It is an ordinary dictionary otherwise: it can be compared,
    copied and written as JSON.
    """

    if not TYPE_CHECKING:  # Type checkers shall know only the attributes that a subclass declares.

        def __getattr__(self, name: str) -> Any:
            try:
                return self[name]
            except KeyError:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.items())})"


class Reference(Record):
    """Names another object, also after that object was deleted."""

    id: str
    slug: str


class Parent(Reference):
    """What a volume was made from."""

    kind: Literal["snapshot", "image"]


class VolumeError(Record):
    """What went wrong with a volume."""

    message: str
    at: str


class VolumeSchedule(Record):
    """The snapshots that the server makes of a volume by itself."""

    every: str
    """How often, such as "5m"."""
    next_at: str
    """When the next one is made, or is tried again."""
    error: str | None
    """Why the last one could not be made."""
    replicates: bool
    """Whether they go to the snapshot store. False: the server has none, and they are in its pool alone."""


class Volume(Record):
    """Read-write storage that outlives sandboxes. Sizes are in bytes, times are ISO 8601 texts."""

    id: str
    slug: str
    region: str
    capacity: int
    estimated_allocated_size: int
    """Bytes that this volume alone owns, not counting what it shares with the snapshot it came from."""
    estimated_flattened_size: int
    """Bytes of the whole file system, shared ones included."""
    used: int
    """The same as `estimated_flattened_size`."""
    inodes: int | None
    """Files, directories and links that it can hold; None: the server does not know yet."""
    used_inodes: int | None
    """How many of the inodes are in use; about eleven are the file system's own."""
    exclusive: int | None
    """Bytes that nothing else shares, which deleting it would free; None: the server does not say."""
    usage_measured_at: str | None
    """When the sizes were measured; None: not yet, or the server does not say."""
    is_bootable: bool
    base_snapshot: Reference | None
    parent: Parent | None
    labels: dict[str, str]
    attached_to: str | None
    """The id of the sandbox that has the volume mounted."""
    created_at: str
    deleted_at: str | None
    purge_at: str | None
    """When a deleted volume's data goes; until then it can be restored, unless the server needs its space."""
    last_error: VolumeError | None
    """What went wrong with it, such as writes that were lost, until it is acknowledged."""
    unavailable: str | None
    """Why it cannot be used now, for example when its disk is not mounted. It is not lost."""
    node: str | None
    """The id of the node that has it."""
    storage_class: Literal["local", "replicated"] | None
    """Where its bytes live; None: the server does not say."""
    schedule: VolumeSchedule | None
    """The snapshots that the server makes of it by itself."""
    replicated_at: str | None
    """As of when the server's snapshot store has it: when the newest of its replicated snapshots was taken."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Volume:
        volume = cls(wire)
        # A server that does not know our extended form leaves `used` out.
        volume.setdefault("used", wire.get("estimated_flattened_size"))
        volume.setdefault("inodes", None)
        volume.setdefault("used_inodes", None)
        volume.setdefault("exclusive", None)
        volume.setdefault("usage_measured_at", None)
        _wrap(volume, "base_snapshot", Reference)
        _wrap(volume, "parent", Parent)
        volume.setdefault("last_error", None)
        volume.setdefault("unavailable", None)
        volume.setdefault("node", None)
        volume.setdefault("storage_class", None)
        _wrap(volume, "last_error", VolumeError)
        volume.setdefault("schedule", None)
        volume.setdefault("replicated_at", None)
        _wrap(volume, "schedule", VolumeSchedule)
        return volume


class VerifiedPart(Record):
    """What a reading of everything has found in one place."""

    state: Literal["whole", "damaged", "missing", "unknown"]
    """`unknown`: there is nothing sound to compare it with."""
    problem: str | None


class SnapshotVerification(Record):
    """What a reading of everything of a replicated snapshot has found."""

    id: str
    slug: str
    store: VerifiedPart
    """Its copy in the snapshot store."""
    pool: VerifiedPart
    """Its image in the pool. `missing`: it comes back from the store when it is used."""
    renewed: bool
    """Its copy is damaged and its image whole: it is uploaded again."""
    read: int
    """Bytes that were read."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> SnapshotVerification:
        found = cls(wire)
        _wrap(found, "store", VerifiedPart)
        _wrap(found, "pool", VerifiedPart)
        return found


class Replication(Record):
    """Whether a snapshot is in the server's snapshot store."""

    state: Literal["local", "uploading", "failed", "replicated"]
    """`local`: it is not. `uploading`: it is to be, or under way. `failed`: so was the last try, and there will be
    another. `replicated`: all of it is there, and the store has confirmed it."""
    at: str | None
    """When it was replicated."""
    bytes: int | None
    """What it takes in the store, also what it shares there with others."""
    read: int | None
    """Bytes of it that were read."""
    shared: int | None
    """Bytes that were not read, because another snapshot in the store has the same."""
    sent: int | None
    """Bytes that were sent: compressed, and without what the store had."""
    manifest: str | None
    """Key of the object in the store that names its parts."""
    error: str | None
    """Why the last try failed."""
    retry_at: str | None
    """When it is tried again, of what has failed."""


class SnapshotFetch(Record):
    """How far the image of a snapshot is on its way back from the server's snapshot store. Sizes are in bytes."""

    started_at: str
    """When it was asked for."""
    done: int
    """What has come, was verified and is in the pool."""
    total: int | None
    """What is to come; None: it waits for its turn, or for the store's answer."""


class Snapshot(Record):
    """An unchangeable image of a volume at one instant. Sizes are in bytes, times are ISO 8601 texts."""

    id: str
    slug: str
    region: str
    allocated_size: int
    """Bytes stored for this snapshot alone."""
    flattened_size: int
    """Bytes of the whole file system, shared ones included."""
    inodes: int | None
    """Files, directories and links that it can hold; None: the server does not know yet."""
    used_inodes: int | None
    """How many of the inodes are in use; about eleven are the file system's own."""
    exclusive: int | None
    """Bytes that nothing else shares, which deleting it would free; None: the server does not say."""
    usage_measured_at: str | None
    """When the sizes were measured; None: not yet, or the server does not say."""
    is_bootable: bool
    bootable: bool
    """The same as `is_bootable`."""
    volume: Reference
    """The volume that it was taken of."""
    base_snapshot: Reference | None
    consistency: Literal["clean", "frozen"]
    """`clean`: the volume was not attached. `frozen`: it was, and its file system was quiesced first."""
    labels: dict[str, str]
    created_at: str
    deleted_at: str | None
    purge_at: str | None
    unavailable: str | None
    """Why it cannot be used now, for example when its disk is not mounted. It is not lost."""
    node: str | None
    """The id of the node that has it."""
    storage_class: Literal["local", "replicated"] | None
    """Where its bytes live; None: the server does not say."""
    automatic: bool
    """The schedule of its volume made it, and thins it out. Labelling it, or asking for its replication, keeps it."""
    replication: Replication | None
    """Whether it is in the server's snapshot store, if the server says so."""
    fetch: SnapshotFetch | None
    """Its image is coming back from the snapshot store, for somebody who uses it; None: it is not."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Snapshot:
        snapshot = cls(wire)
        snapshot.setdefault("automatic", False)
        snapshot.setdefault("replication", None)
        _wrap(snapshot, "replication", Replication)
        snapshot.setdefault("fetch", None)
        _wrap(snapshot, "fetch", SnapshotFetch)
        snapshot.setdefault("unavailable", None)
        snapshot.setdefault("node", None)
        snapshot.setdefault("storage_class", None)
        snapshot.setdefault("bootable", wire.get("is_bootable"))
        snapshot.setdefault("inodes", None)
        snapshot.setdefault("used_inodes", None)
        snapshot.setdefault("exclusive", None)
        snapshot.setdefault("usage_measured_at", None)
        _wrap(snapshot, "volume", Reference)
        _wrap(snapshot, "base_snapshot", Reference)
        return snapshot


class PoolDisk(Record):
    """A disk of a storage pool. All but the percentage are bytes."""

    directory: str
    """Where the pool's part on this disk is, on the server's host."""
    storage_class: Literal["local", "replicated"]
    """Of the volumes and snapshots that lie on it."""
    problem: str | None
    """Why the disk cannot be used, and what to do; its sizes are 0 then. What lies on it is not lost."""
    total: int
    used: int
    free: int
    headroom: int
    available: int
    used_percent: float


class Pool(Record):
    """What a node's storage pool of a region holds. All but the percentage and the hours are bytes."""

    node: str
    region: str
    problem: str | None
    """Why the node does not say what it holds; what only it knows is 0 then. None: it does."""
    total: int
    """What the pool, and the disk that it lies on, can hold."""
    used: int
    """All that it holds: the sum of the parts from `volumes` to `shared`."""
    free: int
    headroom: int
    """What of `free` is kept for scratch disks of sandboxes and for metadata."""
    available: int
    """What volumes and snapshots may still take."""
    used_percent: float
    """How much is used of what volumes and snapshots can ever have."""
    volumes: int
    """What purging each volume alone would free, as measured lately."""
    snapshots: int
    deleted: int
    """Deleted volumes and snapshots that can still be restored."""
    built_in: int
    scratch: int
    shared: int
    """What several of these share, and metadata."""
    retention_hours: float
    retention_floor_hours: float
    """How long deleted things are kept when the pool needs room."""
    disks: list[PoolDisk]
    """The server's data directory first; all sizes above are sums over them."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Pool:
        pool = cls(wire)
        pool["disks"] = [PoolDisk(disk) for disk in wire.get("disks", [])]
        return pool


class SnapshotStoreStatus(Record):
    """How the server's snapshot store stands."""

    url: str
    id: str | None
    """Which store has the snapshots that are replicated. None: none is known yet."""
    problem: str | None
    """Why it cannot be used, and what to do. None: it can."""
    replicas: int
    """How many snapshots of all organizations are replicated."""
    waiting: int
    """How many are to be."""
    failing: int
    """Of these, how many have failed at the last try."""
    oldest_waiting_at: str | None
    """When the oldest of them was taken."""
    last_upload_at: str | None
    """When this run of the server brought a snapshot there last. None: it has not."""
    last_error: str | None
    """Why the last try of this run failed. None: it did not."""
    key_rotation: KeyRotationStatus | None
    """A rotation of the installation's key that is not at its end. None: none is under way."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> SnapshotStoreStatus:
        status = cls(wire)
        rotation = wire.get("key_rotation")
        status["key_rotation"] = None if rotation is None else KeyRotationStatus(rotation)
        return status


class KeyRotationStatus(Record):
    """How far a rotation of the installation's key is."""

    stage: Literal["waiting", "finishing"]
    """`waiting`: the former key is in use, and the new one opens everything as well. `finishing`: the new one is in
    use, and what another one opens is to be taken away. Both end by `finish_key_rotation`."""
    since: str
    problem: str | None
    """What keeps it from being finished on this server, and what to do. None: nothing."""


class KeyRotation(Record):
    """What a rotation of the installation's key has done."""

    outcome: Literal["waiting", "finished", "checked"]
    """`waiting`: both keys open everything, until the rotation is finished. `finished`: the new one alone does.
    `checked`: a dry run, which changed nothing."""
    organization_keys: int
    """How many keys of organizations were wrapped anew, or opened."""
    new_key_file: str | None
    """Where the new key lies, in the server's data directory, until it is in use. None: none waits."""
    former_key_file: str | None
    """Where the former key lies, in the server's data directory. None: this call has replaced none."""


class Node(Record):
    """A machine that holds volumes and runs sandboxes. Times are ISO 8601 texts."""

    id: str
    state: Literal["live", "draining", "suspect", "lost"]
    """`draining`: it gets no new sandboxes. `suspect`: it gave no sign of life lately; nobody knows how it is.
    `lost`: it was given up, and is being forgotten."""
    draining: bool
    """Whether it gets no new sandboxes, also while it is suspect."""
    regions: list[str]
    address: str
    """Host name or address; with a port, where the server connects to it."""
    connected: bool
    """Whether the server reaches it, so that what it has can be used."""
    problem: str | None
    """Why the server does not reach it; None: it does."""
    run: str
    """Which start of its process began last; empty: none yet."""
    free: dict[str, int]
    """Bytes that its pools have free, by region, as it said last."""
    labels: dict[str, str]
    generation: int
    """Raised at each of its starts."""
    started_at: str
    seen_at: str
    """Its last sign of life."""
    lease_until: str
    """Until when it counts as live without another one."""
    certificate_until: str | None
    """Until when its certificate is good, which is renewed when a third of its time is left.
    None: it is in the server's own process and needs none, or was not connected yet."""
    places: int
    """Sandboxes that it may run."""
    places_taken: int
    """Those that it runs, starts or ends."""
    memory_mib: int | None
    """Memory that its sandboxes may have together; None: they share what the host has."""
    memory_taken_mib: int
    """What they were given."""


class Backup(Record):
    """A backup of the installation's rows in the server's snapshot store. Its time is an ISO 8601 text."""

    id: str
    at: str
    """As of when the rows are."""
    automatic: bool
    """Whether the schedule made it, which also forgets it."""


class CreatedBackup(Backup):
    """A backup that was just made. Sizes are in bytes."""

    size: int
    """Of the rows."""
    stored: int
    """What it takes in the store, what it shares with others included."""
    sent: int


class BackupOverview(Record):
    """What backups there are, and how the last one went."""

    every_seconds: float | None
    """How often there is to be one; None: only when somebody asks for it."""
    problem: str | None
    """What an administrator must see to, such as that the newest one is too old."""
    error: str | None
    """Why the last try failed; None: it did not."""
    error_at: str | None
    backups: list[Backup]
    """The newest first."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> BackupOverview:
        overview = cls(wire)
        overview["backups"] = [Backup(item) for item in wire.get("backups", [])]
        return overview


class NodeLoss(Record):
    """What would be lost with a node."""

    volumes: int
    """Its volumes, also deleted ones that could be restored."""
    volume_names: list[dict[str, str]]
    """The first hundred of them, the oldest first, each with `organization` and `slug`."""
    snapshots: int
    """Snapshots without a whole copy in the snapshot store."""
    replicated_snapshots: int
    """Snapshots with one: they stay usable."""
    sandboxes: int
    """Sandboxes that have not ended."""


class NodeAuthority(Record):
    """The authority that signs the certificates of nodes and servers, and how far its renewal is."""

    authorities: list[dict[str, Any]]
    """Those that are believed, the oldest first, each with `number`, `fingerprint` and `expires_at` (ISO 8601). Empty:
    none was made yet. Two: it is being renewed, and nodes get certificates of the second one."""
    waiting_nodes: list[str]
    """Nodes whose certificate is not known to be of the newest authority: with two, those that would be locked out if
    the old one were retired; with one, those that are."""


class JoinToken(Record):
    """With it one machine joins as a node, once, until it expires. Times are ISO 8601 texts."""

    id: str
    """The id, `jtk_<20 characters>`."""
    region: str | None
    """The only region that the node may have; None: those in its settings."""
    created_at: str
    expires_at: str
    node_id: str | None
    """The node that has joined with it; None: nobody yet."""


class CreatedJoinToken(JoinToken):
    """A token for joining with its text, which is not shown again."""

    token: str
    """For `caisson up --role node --join`."""
    server_url: str
    """Where the machine reaches the server, as the token says."""


class Preview(Record):
    """A name under which a server inside a sandbox is reached."""

    domain: str
    """The host, with the port where that is not 443."""
    url: str
    port: int | None
    pid: int | None
    private: bool
    """Whether it needs its token or a signed link."""
    rewrite_host: bool
    """Whether the server inside sees `localhost` as its host."""
    created_at: str


class CreatedPreview(Preview):
    """A preview that was created just now."""

    token: str | None
    """Of a private one: what to send in the header `X-Caisson-Preview-Token`. The server keeps no copy of it."""


class Descendant(Record):
    """A volume or snapshot that came, directly or not, from another."""

    kind: Literal["volume", "snapshot"]
    id: str
    slug: str
    region: str
    created_at: str
    parent_id: str


class SandboxMeta(Record):
    """A sandbox as a listing shows it. Times are ISO 8601 texts."""

    id: str
    region: str
    status: Literal["running", "stopping", "stopped"]
    created_at: str
    stopped_at: str | None
    labels: dict[str, str]
    node: str | None
    """The id of the node that runs it, or ran it."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> SandboxMeta:
        meta = cls(snake_keys(wire))
        meta.setdefault("stopped_at", None)
        meta.setdefault("labels", {})
        meta.setdefault("node", None)
        return meta


class FileInfo(Record):
    """What `stat` says about a file. `size` is in bytes, `blocks` in units of 512 bytes, times are ISO 8601 texts."""

    is_file: bool
    is_directory: bool
    is_symlink: bool
    size: int
    mtime: str
    atime: str
    birthtime: str
    ctime: str
    dev: int
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    blocks: int
    is_block_device: bool
    is_char_device: bool
    is_fifo: bool
    is_socket: bool

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> FileInfo:
        return cls(snake_keys(wire))


class DirEntry(Record):
    """One name in a directory."""

    name: str
    is_file: bool
    is_directory: bool
    is_symlink: bool

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> DirEntry:
        return cls(snake_keys(wire))


class WalkEntry(DirEntry):
    """One entry that `walk` or `expand_glob` found."""

    path: str

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> WalkEntry:
        return cls(snake_keys(wire))


class ProcessStatus(Record):
    """How a process ended."""

    success: bool
    """Whether the exit code is 0."""
    code: int
    """The exit code; 128 plus the signal's number when a signal ended it."""
    signal: str | None
    """The name of the signal that ended it, for example `"SIGTERM"`."""
    oom: Literal["high-confidence", "low-confidence"] | None
    """Set when the process was killed because the sandbox ran out of memory, with how sure that is."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ProcessStatus:
        return cls({"signal": None, "oom": None, **wire})


class SshAccess(Record):
    """How to reach a sandbox with an SSH client. The user name is the secret: who has it, gets in."""

    hostname: str
    username: str
    port: int


class SshEndpoint(Record):
    """Where SSH clients connect, and by which key they know the server."""

    hostname: str
    port: int
    host_key: str
    """Type and key, as a line of `known_hosts` has them."""
    fingerprint: str
    """As `ssh-keygen -l` shows it."""


class SshKey(Record):
    """A public key that may log in to every sandbox of the organization by SSH."""

    id: str
    name: str
    type: str
    """For example `ssh-ed25519`."""
    public_key: str
    """Type and key, as in a `.pub` file."""
    fingerprint: str
    """As `ssh-keygen -l` shows it."""
    created_at: str
    """ISO 8601."""


class Mount(TypedDict, total=False):
    """A mount with options, as a value in `volumes=`."""

    volume: str | Volume
    read_only: bool


class SecretConfig(TypedDict):
    """A secret and the host names that its value may be sent to, at least one."""

    hosts: list[str]
    value: str


def snake_keys(wire: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the keys of one record of the protocol. Never applied below it, where users' own keys live."""
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower(): value for key, value in wire.items()}


def id_of(value: str | Volume | Snapshot) -> str:
    """The id of an object, or the id or slug that was given in its place."""
    return value if isinstance(value, str) else value.id


def _wrap(record: Record, key: str, kind: type[Record]) -> None:
    value = record.get(key)
    if value is not None:
        record[key] = kind(value)

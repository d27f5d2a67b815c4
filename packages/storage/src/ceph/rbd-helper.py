"""Speaks with one pool of one Ceph cluster through librados and librbd, for the server that started it.

A frame, both ways, on standard input and output: the lengths of a header and of a payload, 4 bytes each with the most significant first, then the
header (JSON) and the payload. A request's header is {"id", "op", "arguments"}; an answer's is {"id", "result"} or {"id", "error": {"errno", "message"}},
or, while something long goes on, {"id", "isAlive": true}. Requests are answered side by side and in any order; those that may take long
have threads of their own, and keep no short one waiting. It ends with its input.
"""

import collections
import errno
import json
import os
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import rados
import rbd

REGISTER = "caisson_images"
# Without deep-flatten, which would copy all of a parent's data into the snapshots of a clone whose contents are removed.
FEATURES = rbd.RBD_FEATURE_LAYERING | rbd.RBD_FEATURE_EXCLUSIVE_LOCK | rbd.RBD_FEATURE_OBJECT_MAP | rbd.RBD_FEATURE_FAST_DIFF
# 1 MiB: what a clone copies for the first small write, and the unit in which usage counts.
ORDER = 20
WORKERS = 12
LONG_WORKERS = 8
ALIVE_SECONDS = 1
# A call that takes longer is stuck.
LONG_SECONDS = 3600
OPEN_SNAPSHOTS = 32


class Pool:
    def __init__(self, options):
        self.cluster = rados.Rados(conffile=options["conf"], name="client." + options["user"])
        for name, value in options["configuration"].items():
            self.cluster.conf_set(name, value)
        self.cluster.connect()
        self.pool = options["pool"]
        self.rbd = rbd.RBD()
        self.snapshots = collections.OrderedDict()
        self.lock = threading.Lock()
        try:
            self.io = self.cluster.open_ioctx(self.pool)
        except rados.ObjectNotFound as error:
            raise Refusal(errno.ENOENT, "no pool") from error
        if options["namespace"]:
            if not self.rbd.namespace_exists(self.io, options["namespace"]):
                raise Refusal(errno.ENOENT, "no namespace")
            self.io.set_namespace(options["namespace"])
        # In a full pool things are deleted, and writes fail instead of waiting for room.
        self.io.set_osdmap_full_try()
        with rados.WriteOpCtx() as op:
            op.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
            self.io.operate_write_op(op, REGISTER)

    # What is written down of the images: one object with a value for each key.

    def rows(self, prefix):
        rows, after = {}, ""
        while True:
            with rados.ReadOpCtx() as op:
                values, _ = self.io.get_omap_vals(op, after, prefix, 1000)
                self.io.operate_read_op(op, REGISTER)
                page = [(key, value.decode()) for key, value in values]
            rows.update(page)
            if len(page) < 1000:
                return rows
            after = page[-1][0]

    def row(self, key):
        with rados.ReadOpCtx() as op:
            values, _ = self.io.get_omap_vals_by_keys(op, (key,))
            self.io.operate_read_op(op, REGISTER)
            return next((value.decode() for _, value in values), None)

    def replace_row(self, key, expected, value):
        """Whether the value was the expected one. None: no such key."""
        with rados.WriteOpCtx() as op:
            # A key that is not there compares as an empty value.
            op.omap_cmp(key, expected or "", rados.LIBRADOS_CMPXATTR_OP_EQ)
            if value is None:
                self.io.remove_omap_keys(op, (key,))
            else:
                self.io.set_omap(op, (key,), (value.encode(),))
            try:
                self.io.operate_write_op(op, REGISTER)
            except rados.Error as error:
                if error.errno == errno.ECANCELED:
                    return False
                raise
        return True

    # Images

    def images(self):
        return self.rbd.list(self.io)

    def trash(self):
        return [{"id": item["id"], "name": item["name"]} for item in self.rbd.trash_list(self.io)]

    def create(self, image, sizeBytes):
        self.rbd.create(self.io, image, sizeBytes, order=ORDER, old_format=False, features=FEATURES)

    def clone(self, parent, snapshot, image, sizeBytes):
        self.rbd.clone(self.io, parent, snapshot, self.io, image, features=FEATURES, order=ORDER)
        self.resize(image, sizeBytes)

    def resize(self, image, sizeBytes):
        with rbd.Image(self.io, image) as opened:
            if opened.size() != sizeBytes:
                opened.resize(sizeBytes)

    def snapshot(self, image, snapshot):
        with rbd.Image(self.io, image) as opened:
            try:
                opened.create_snap(snapshot)
            except rbd.ImageExists:
                pass

    def remove_snapshot(self, image, imageId, snapshot):
        with self.open(image, imageId, None, False) as opened:
            try:
                opened.remove_snap(snapshot)
            except rbd.ImageNotFound:
                pass

    def remove(self, image):
        try:
            self.rbd.remove(self.io, image)
        except rbd.ImageNotFound:
            pass

    def trash_move(self, image):
        self.rbd.trash_move(self.io, image, 0)

    def trash_remove(self, imageId):
        try:
            self.rbd.trash_remove(self.io, imageId, True)
        except rbd.ImageNotFound:
            pass

    def info(self, image, imageId):
        """None: no such image. Snapshots are in order, oldest first, each with how many clones it has."""
        try:
            with self.open(image, imageId, None, True) as opened:
                return self.describe(opened)
        except rbd.ImageNotFound:
            return None

    def describe(self, opened):
        snapshots = []
        parent = parent_of(opened)
        for snapshot in sorted(opened.list_snaps(), key=lambda item: item["id"]):
            opened.set_snap_by_id(snapshot["id"])
            # An image without contents has no parent any more, while its snapshots have.
            parent = parent or parent_of(opened)
            children = len(list(opened.list_children2()))
            snapshots.append({"name": snapshot["name"], "sizeBytes": snapshot["size"], "childCount": children})
        opened.set_snap(None)
        return {"sizeBytes": opened.size(), "snapshots": snapshots, "parent": parent}

    def open(self, image, imageId, snapshot, isReadOnly):
        if imageId is None:
            return rbd.Image(self.io, image, snapshot=snapshot, read_only=isReadOnly)
        return rbd.Image(self.io, image_id=imageId, snapshot=snapshot, read_only=isReadOnly)

    def diff(self, image, imageId, since, snapshot, hasParent, isWhole):
        """Extents that changed since a snapshot (or ever), as they are at another (or now): offset, length, and whether there is data."""
        extents = []

        def add(offset, length, exists):
            last = extents[-1] if extents else None
            if last and last[0] + last[1] == offset and last[2] == exists:
                last[1] += length
            else:
                extents.append([offset, length, exists])

        with self.open(image, imageId, snapshot, True) as opened:
            opened.diff_iterate(0, opened.size(), since, add, hasParent, isWhole)
        return extents

    def read(self, image, snapshot, offset, length):
        if snapshot is None:
            with rbd.Image(self.io, image, read_only=True) as opened:
                return Payload(opened.read(offset, max(0, min(length, opened.size() - offset))))
        # Nothing changes in a snapshot, so it may stay open.
        with self.lock:
            opened = self.snapshots.pop((image, snapshot), None)
        opened = opened or rbd.Image(self.io, image, snapshot=snapshot, read_only=True)
        payload = Payload(opened.read(offset, max(0, min(length, opened.size() - offset))))
        closing = opened
        with self.lock:
            if (image, snapshot) not in self.snapshots:
                self.snapshots[(image, snapshot)] = opened
                closing = self.snapshots.popitem(last=False)[1] if len(self.snapshots) > OPEN_SNAPSHOTS else None
        if closing:
            closing.close()
        return payload

    def write(self, image, extents, payload):
        with rbd.Image(self.io, image) as opened:
            at = 0
            for offset, length in extents:
                opened.write(payload[at : at + length], offset)
                at += length
            opened.flush()

    # Clients

    def watchers(self, image, imageId):
        try:
            with self.open(image, imageId, None, True) as opened:
                return sorted({watcher["addr"] for watcher in opened.watchers_list()})
        except rbd.ImageNotFound:
            return []

    def lockers(self, image):
        try:
            with self.open(image, None, None, True) as opened:
                lockers = opened.list_lockers()
                return sorted({address for _, _, address in lockers["lockers"]}) if lockers else []
        except rbd.ImageNotFound:
            return []

    def blocklist(self, addresses, seconds):
        for address in addresses:
            self.command({"prefix": "osd blocklist", "blocklistop": "add", "addr": address, "expire": float(seconds)})
        # Whatever this client does next carries the list to the cluster.
        self.cluster.wait_for_latest_osdmap()

    def break_locks(self, image, addresses):
        try:
            with rbd.Image(self.io, image) as opened:
                lockers = opened.list_lockers()
                for client, cookie, address in lockers["lockers"] if lockers else []:
                    if address in addresses:
                        opened.break_lock(client, cookie)
        except rbd.ImageNotFound:
            pass

    # The cluster

    def look(self):
        self.io.stat(REGISTER)

    def address(self):
        return self.cluster.get_addrs()

    def fsid(self):
        return self.cluster.get_fsid()

    def space(self):
        pools = json.loads(self.command({"prefix": "df", "format": "json"}))["pools"]
        stats = next(pool["stats"] for pool in pools if pool["name"] == self.pool)
        quota = json.loads(self.command({"prefix": "osd pool get-quota", "pool": self.pool, "format": "json"}))["quota_max_bytes"]
        return {"storedBytes": stats["stored"], "freeBytes": stats["max_avail"], "quotaBytes": quota or None}

    def command(self, command):
        code, output, message = self.cluster.mon_command(json.dumps(command), b"")
        if code:
            raise Refusal(-code, command["prefix"] + ": " + message)
        return output


def parent_of(opened):
    try:
        spec = opened.get_parent_image_spec()
        return {"image": spec["image_name"], "snapshot": spec["snap_name"]}
    except rbd.ImageNotFound:
        return None


class Payload(bytes):
    pass


class Refusal(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.errno = code


OPS = (
    "rows row replace_row images trash create clone resize snapshot remove_snapshot remove trash_move trash_remove info diff read write "
    "watchers lockers blocklist break_locks address fsid space"
).split()
# What takes time in proportion to what there is.
LONG_OPS = {"resize", "remove_snapshot", "remove", "trash_remove", "diff"}
# When each long call began; None: it waits for its turn.
long_calls = {}
long_lock = threading.Lock()
output_lock = threading.Lock()


def send(header, payload=b""):
    text = json.dumps(header).encode()
    with output_lock:
        sys.stdout.buffer.write(struct.pack(">II", len(text), len(payload)) + text + payload)
        sys.stdout.buffer.flush()


def describe_error(error):
    code = getattr(error, "errno", None)
    return {"errno": errno.errorcode.get(abs(code), str(code)) if isinstance(code, int) else None, "message": str(error) or repr(error)}


def answer(pool, header, payload):
    number, name, arguments = header["id"], header["op"], header["arguments"]
    try:
        if name not in OPS:
            raise Refusal(errno.EINVAL, "no operation " + name)
        if name == "write":
            arguments["payload"] = payload
        result = getattr(pool, name)(**arguments)
        if isinstance(result, Payload):
            send({"id": number, "result": None}, result)
        else:
            send({"id": number, "result": result})
    except Exception as error:  # whatever it is, the server decides
        send({"id": number, "error": describe_error(error)})


def answer_long(pool, header, payload):
    with long_lock:
        long_calls[header["id"]] = time.monotonic()
    answer(pool, header, payload)
    with long_lock:
        del long_calls[header["id"]]


def tell_alive(pool):
    """Tells that long calls go on, as long as the cluster answers another one beside them."""
    while True:
        time.sleep(ALIVE_SECONDS)
        now = time.monotonic()
        with long_lock:
            numbers = [number for number, began in long_calls.items() if began is None or now - began < LONG_SECONDS]
        try:
            if numbers:
                pool.look()
        except rados.Error:
            continue
        for number in numbers:
            send({"id": number, "isAlive": True})


def read_exactly(length):
    data = sys.stdin.buffer.read(length)
    if len(data) < length:
        # Not a normal exit: librados would wait for what is under way.
        os._exit(0)
    return data


def main():
    try:
        pool = Pool(json.loads(sys.argv[1]))
        send({"id": 0, "result": {"address": pool.address(), "fsid": pool.fsid()}})
    except Exception as error:
        send({"id": 0, "error": describe_error(error)})
        os._exit(1)
    threading.Thread(target=tell_alive, args=(pool,), daemon=True).start()
    with ThreadPoolExecutor(WORKERS) as workers, ThreadPoolExecutor(LONG_WORKERS) as long_workers:
        while True:
            header_length, payload_length = struct.unpack(">II", read_exactly(8))
            header = json.loads(read_exactly(header_length))
            payload = read_exactly(payload_length)
            if header["op"] in LONG_OPS:
                with long_lock:
                    long_calls[header["id"]] = None
                long_workers.submit(answer_long, pool, header, payload)
            else:
                workers.submit(answer, pool, header, payload)


main()

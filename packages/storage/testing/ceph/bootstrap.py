"""Brings a cluster of one monitor, one manager and one OSD up, in two parts: `osd` before the OSD is made, `pool` when it runs. It is `test-ceph.ts` that starts it."""

import json
import os
import sys
import time

import rados
import rbd

part, conf, pool, osd_id, osd_secret = sys.argv[1:6]
DEADLINE_SECONDS = float(sys.argv[6])
started = time.monotonic()
cluster = rados.Rados(conffile=conf, name="client.admin")
cluster.conf_set("client_mount_timeout", "60")
cluster.connect()


def command(secret=b"", **arguments):
    code, output, message = cluster.mon_command(json.dumps({"format": "json", **arguments}), secret)
    if code:
        sys.exit(f"{arguments}: {code} {message}")
    return json.loads(output) if output.strip() else None


def wait_until(is_true):
    while not is_true():
        if time.monotonic() - started > DEADLINE_SECONDS:
            sys.exit(f"not ready after {DEADLINE_SECONDS} s: {command(prefix='health')}")
        time.sleep(0.05)


if part == "osd":
    # No manager has announced these options yet.
    command(prefix="config set", who="mgr", name="mgr/devicehealth/enable_monitoring", value="false", force=True)
    command(prefix="osd new", uuid=osd_id, secret=json.dumps({"cephx_secret": osd_secret}).encode())
    for flag in ("noscrub", "nodeep-scrub"):
        command(prefix="osd set", key=flag)
else:
    wait_until(lambda: any(osd["up"] and osd["in"] for osd in command(prefix="osd dump")["osds"]))
    command(prefix="osd pool create", pool=pool, pg_num=8, pgp_num=8)
    io = cluster.open_ioctx(pool)
    rbd.RBD().pool_init(io, True)
    # Blocks until the placement groups are active.
    rbd.RBD().create(io, "probe", 1 << 20)
    rbd.RBD().remove(io, "probe")
    wait_until(lambda: any(item["name"] == pool and item["stats"]["max_avail"] > 0 for item in command(prefix="df")["pools"]))
# Not a normal exit, which waits for threads of the library.
sys.stdout.flush()
os._exit(0)

/** Bytes of a record. */
export const RECORD_BYTES = 512;

/**
 * Runs inside a sandbox: `writer.py FILE GENERATION PAUSE_MS`, or `writer.py FILE check`. First it prints what the file holds, as one line of JSON: the runs of records by generation, each with its first and last
 * sequence and time, and what is not as it was written. Then it appends records, each with its place, generation, sequence, time and a checksum, syncs each, and prints `generation sequence time` when that was done.
 */
export const WRITER_PROGRAM = `
import fcntl, json, os, signal, struct, sys, time, zlib
SIZE = ${RECORD_BYTES}
HEAD = struct.Struct("<QQQdI")
path, mode = sys.argv[1], sys.argv[2]

def pack(place, generation, sequence, now):
    body = struct.pack("<QQQd", place, generation, sequence, now)
    return (body + struct.pack("<I", zlib.crc32(body))).ljust(SIZE, b"\\0")

def read(file):
    runs, bad, place = [], [], 0
    while True:
        block = os.pread(file, SIZE, place * SIZE)
        if not block:
            break
        whole = len(block) == SIZE
        at, generation, sequence, now, crc = HEAD.unpack(block[:HEAD.size]) if whole else (0, 0, 0, 0.0, 0)
        if not whole or crc != zlib.crc32(block[:HEAD.size - 4]) or at != place:
            bad.append(place)
        elif runs and runs[-1]["generation"] == generation and runs[-1]["last"] == sequence - 1:
            runs[-1]["last"], runs[-1]["until"] = sequence, now
        else:
            runs.append({"generation": generation, "first": sequence, "last": sequence, "from": now, "until": now})
        place += 1
    return runs, bad, place

if mode == "check":
    # A snapshot may be older than the file.
    runs, bad, places = read(os.open(path, os.O_RDONLY)) if os.path.exists(path) else ([], [], 0)
    print(json.dumps({"runs": runs, "bad": bad, "places": places}), flush=True)
    sys.exit()

# Of one sandbox only the last writer goes on.
try:
    os.kill(int(open("/tmp/writer.pid").read()), signal.SIGKILL)
except (OSError, ValueError):
    pass
open("/tmp/writer.pid", "w").write(str(os.getpid()))
file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(file, fcntl.LOCK_EX)
runs, bad, places = read(file)
print(json.dumps({"runs": runs, "bad": bad, "places": places}), flush=True)
# What was not whole was the last that a writer was at.
place = bad[0] if bad else places
os.ftruncate(file, place * SIZE)
os.fsync(file)
generation, sequence, pause = int(mode), 0, int(sys.argv[3]) / 1000
while True:
    now = time.time()
    os.pwrite(file, pack(place, generation, sequence, now), place * SIZE)
    os.fsync(file)
    print(generation, sequence, now, flush=True)
    place, sequence = place + 1, sequence + 1
    time.sleep(pause)
`;

import assert from "node:assert/strict";
import type { Sandbox } from "@deno/sandbox";

// What a test of egress runs inside sandboxes to see what they reach.

interface Seen {
  readonly host: string;
  readonly path: string;
  readonly from: string;
}

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function run(sandbox: Sandbox, script: string): Promise<Outcome> {
  const child = await sandbox.spawn("bash", { args: ["-c", script], stdout: "piped", stderr: "piped" });
  const { status, stdoutText, stderrText } = await child.output();
  return { code: status.code, stdout: stdoutText ?? "", stderr: stderrText ?? "" };
}

export async function read(sandbox: Sandbox, script: string): Promise<string> {
  const { code, stdout, stderr } = await run(sandbox, script);
  assert.equal(code, 0, `${script}\n${stdout}${stderr}`);
  return stdout.trim();
}

/** How long an answer may take. */
const ANSWER_SECONDS = 30;

export async function curl(sandbox: Sandbox, args: string): Promise<Seen> {
  return JSON.parse(await read(sandbox, `curl -sSf --max-time ${ANSWER_SECONDS} ${args}`)) as Seen;
}

/** Reaches nothing: curl's 6 is an unknown name, 7 a refusal, 28 silence, 35 and 56 a reset. */
export async function assertClosed(
  sandbox: Sandbox,
  args: string,
  codes: readonly number[] = [7, 28, 35, 56],
): Promise<void> {
  // Silence is waited for where it is an answer; what is said comes when it comes.
  const seconds = codes.includes(28) ? 3 : ANSWER_SECONDS;
  const { code, stdout } = await run(sandbox, `curl -sS --max-time ${seconds} ${args}`);
  assert.ok(codes.includes(code), `curl ${args} ends with ${code}: ${stdout}`);
}

/** A DNS question as bytes, in Python, over UDP or TCP; prints the answer's code and the number of its records. */
export const ask = (server: string, name: string, isTcp = false): string => `python3 - <<'PY'
import socket, struct
question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(p)]) + p.encode() for p in "${name}".split(".")) + b"\\0" + struct.pack(">2H", 1, 1)
s = socket.socket(socket.AF_INET, socket.${isTcp ? "SOCK_STREAM" : "SOCK_DGRAM"})
s.settimeout(${ANSWER_SECONDS})
s.connect(("${server}", 53))
s.send((struct.pack(">H", len(question)) if ${isTcp ? "True" : "False"} else b"") + question)
reply = s.recv(65535)[${isTcp ? 2 : 0}:]
print(reply[3] & 15, struct.unpack(">H", reply[6:8])[0])
PY`;

/** Sends to a port and prints what comes back, or the error. Where nothing may come, `seconds` says how long it is waited for. */
export const exchange = (
  kind: "SOCK_STREAM" | "SOCK_DGRAM",
  target: string,
  port: number,
  { text = "hello", seconds = ANSWER_SECONDS }: { readonly text?: string; readonly seconds?: number } = {},
): string =>
  `python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.${kind}); s.settimeout(${seconds})
try:
  s.connect(("${target}", ${port})); s.send(b"${text}"); print(s.recv(100).decode())
except OSError as e: print("closed", e)'`;

/** Sends bytes to allowed.test, by default to port 80, and prints all that comes back until a second has passed without more. */
export function exchangeRaw(text: string, port = 80): string {
  return `python3 -c 'import socket
s = socket.create_connection(("allowed.test", ${port})); s.settimeout(${ANSWER_SECONDS}); s.send(b"${text}")
try:
  while True:
    data = s.recv(65536)
    if not data: break
    print(data.decode(), end=""); s.settimeout(1)
except OSError: pass'`;
}

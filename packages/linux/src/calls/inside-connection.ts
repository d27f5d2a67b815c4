import { closeSync, openSync } from "node:fs";
import { Socket } from "node:net";
import type { HasDescriptor } from "./descriptor.ts";
import { callSync, passFaultPoint } from "./ffi.ts";
import { errnoName, hasErrorCode, KernelError } from "./kernel-error.ts";

const CLONE_NEWNET = 0x40000000;
const AF_INET = 2;
const AF_INET6 = 10;
/** SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC */
const STREAM = 1 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SOL_TCP = 6;
const TCP_NODELAY = 1;
const TCP_USER_TIMEOUT = 18;
/** How long the other side may leave the first or any later packet without an answer. */
const USER_TIMEOUT_MS = 10_000;

/** This process's own network namespace, opened once: the way back must not fail. */
let ownNamespace: number | undefined;

/**
 * A TCP connection from within another network namespace, as if a process in there had made it. Nothing of this process enters it: a socket
 * belongs for good to the namespace that its thread was in when it was made, and the thread is back before anything else can run on it. The
 * connection is refused, or under way and owned by the caller. Throws a `KernelError`, such as `ECONNREFUSED`.
 */
export async function connectInside(namespace: HasDescriptor, address: string, port: number): Promise<Socket> {
  const detail = `${address} port ${port}`;
  await passFaultPoint({ name: "connect inside", detail });
  const isIpv6 = address.includes(":");
  const fd = socketInside(namespace, isIpv6 ? AF_INET6 : AF_INET, detail);
  try {
    setOption(fd, SOL_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS, detail);
    // Small messages, such as what somebody types, must not wait until the one before them is acknowledged.
    setOption(fd, SOL_TCP, TCP_NODELAY, 1, detail);
    const target = isIpv6 ? loopbackIpv6(port) : ipv4(address, port);
    try {
      callSync("connect", [fd, target, target.length], { name: "connect", detail });
    } catch (error) {
      if (!hasErrorCode(error, "EINPROGRESS")) throw error;
    }
    // On a loopback interface it is over by now, one way or the other; elsewhere its reader learns of it.
    const errno = readError(fd, detail);
    if (errno !== 0) throw new KernelError("connect", errnoName(errno), detail);
    return new Socket({ fd, readable: true, writable: true });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Nothing in here gives way to other work of this thread. */
function socketInside({ fd: namespace }: HasDescriptor, family: number, detail: string): number {
  ownNamespace ??= openSync("/proc/thread-self/ns/net", "r");
  callSync("setns", [namespace, CLONE_NEWNET], { name: "setns", detail });
  try {
    return callSync("socket", [family, STREAM, 0], { name: "socket", detail });
  } finally {
    leave(ownNamespace);
  }
}

/** A thread that stayed in a sandbox's network would make all later connections there, so the process ends instead. */
function leave(ownNamespace: number): void {
  try {
    callSync("setns", [ownNamespace, CLONE_NEWNET], { name: "setns", detail: "back" });
  } catch (error) {
    console.error("Cannot leave the network namespace of a sandbox:", error);
    process.abort();
  }
}

function setOption(fd: number, level: number, name: number, value: number, detail: string): void {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32LE(value);
  callSync("setsockopt", [fd, level, name, buffer, buffer.length], { name: "setsockopt", detail });
}

function readError(fd: number, detail: string): number {
  const value = Buffer.alloc(4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  callSync("getsockopt", [fd, SOL_SOCKET, SO_ERROR, value, length], { name: "getsockopt", detail });
  return value.readInt32LE(0);
}

/** `struct sockaddr_in` (ip(7)): the family is in the host's byte order, port and address are in the network's. */
function ipv4(address: string, port: number): Buffer {
  const buffer = Buffer.alloc(16);
  buffer.writeUInt16LE(AF_INET, 0);
  buffer.writeUInt16BE(port, 2);
  buffer.set(address.split(".").map(Number), 4);
  return buffer;
}

/** `struct sockaddr_in6` (ipv6(7)) of `::1`, the only IPv6 address that sandboxes have. */
function loopbackIpv6(port: number): Buffer {
  const buffer = Buffer.alloc(28);
  buffer.writeUInt16LE(AF_INET6, 0);
  buffer.writeUInt16BE(port, 2);
  buffer.writeUInt8(1, 23);
  return buffer;
}

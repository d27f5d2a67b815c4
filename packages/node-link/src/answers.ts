import type { Node } from "@caisson/node";
import { Type } from "typebox";
import { Compile, type Validator } from "typebox/compile";
import type { LinkEvent } from "./node-events.ts";

/**
 * What a node may answer and tell. A node may be in foreign hands, and what it says goes into rows, metrics and answers to clients: names and numbers have one form,
 * and texts for people are cleaned before (`cleanText`) and only then looked at here.
 */

/** Calls whose answer is plain data; the head of an export is. */
export type AnsweringMethod = Exclude<keyof Node, "openAgent" | "connectInside">;

/** In UTF-16 units: room for any sentence, and no more than a row should hold. */
export const MAX_TEXT_LENGTH = 4096;

/** Images of a pool, many times more than pools are made for; the bytes of an answer bind before. */
const MAX_IMAGES = 2 ** 20;
/** Things of which a host has some, and each of which becomes a row, a series of a metric or a line for people. */
const MAX_FEW = 256;
/** As of `DiskExport`. */
const MAX_PARTS = 4096;
/** Sandboxes of one host, far beyond its network addresses and memory. */
const MAX_SANDBOXES = 2 ** 16;

const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Count = Bytes;
const DurationMs = Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** Cleaned already. */
const Text = Type.String({ maxLength: MAX_TEXT_LENGTH });
const TextOrNull = Type.Union([Text, Type.Null()]);
const Id = Type.String({ pattern: "^[A-Za-z0-9_.-]{1,100}$" });
/** Visible characters without spaces. */
const Name = Type.String({ pattern: "^[!-~]{1,200}$" });
const Class = Type.Union([Type.Literal("local"), Type.Literal("replicated")]);
const Region = Type.String({ pattern: "^[a-z]{3}$" });
const Cause = Type.Union([Type.Literal("exited"), Type.Literal("out-of-memory")]);
const CauseOrNull = Type.Union([Cause, Type.Null()]);
const Nothing = Type.Undefined();
const capacity = { totalBytes: Bytes, availableBytes: Bytes, freeBytes: Bytes, headroomBytes: Bytes };

const ANSWERS: Readonly<Record<AnsweringMethod, Validator>> = {
  describe: Compile(
    Type.Object({
      runId: Type.String({ minLength: 1, maxLength: 100 }),
      regions: Type.Array(
        Type.Object({
          name: Region,
          baseImages: Type.Array(Type.Object({ name: Name, imageId: Id, sizeBytes: Bytes }), { maxItems: MAX_FEW }),
          hasReplicated: Type.Boolean(),
          shared: Type.Optional(Type.Union([Type.Object({ identity: Name, instance: Name }), Type.Null()])),
        }),
        { maxItems: MAX_FEW },
      ),
      labels: Type.Record(Type.String({ maxLength: 100 }), Text),
      placeCount: Count,
      placeBound: TextOrNull,
      retriedWorkCount: Count,
    }),
  ),
  prepare: Compile(Nothing),
  poolCapacity: Compile(
    Type.Object({
      ...capacity,
      disks: Type.Array(
        Type.Object({
          ...capacity,
          directory: Text,
          problem: TextOrNull,
          class: Type.Optional(Class),
        }),
        { maxItems: MAX_FEW },
      ),
    }),
  ),
  ownPoolUsage: Compile(Type.Object({ builtInBytes: Bytes, scratchBytes: Bytes })),
  growPool: Compile(Nothing),
  makeRoom: Compile(Nothing),
  createDisk: Compile(Nothing),
  sealDisk: Compile(
    Type.Object({ consistency: Type.Union([Type.Literal("clean"), Type.Literal("frozen")]), frozenMs: DurationMs }),
  ),
  growDisk: Compile(Nothing),
  deleteDisk: Compile(Type.Union([Type.Literal("deleted"), Type.Literal("in-use")])),
  recoverDisk: Compile(Nothing),
  fence: Compile(Nothing),
  getDisk: Compile(Type.Union([Type.Object({ sizeBytes: Bytes }), Type.Null()])),
  measureDisk: Compile(
    Type.Union([
      Type.Object({
        usage: Type.Union([
          Type.Object({ allocatedBytes: Bytes, flattenedBytes: Bytes, exclusiveBytes: Bytes }),
          Type.Null(),
        ]),
        inodes: Type.Union([Type.Object({ inodes: Count, usedInodes: Count }), Type.Null()]),
      }),
      Type.Null(),
    ]),
  ),
  tendDisk: Compile(Nothing),
  listDisks: Compile(Type.Array(Id, { maxItems: MAX_IMAGES })),
  listMountedDisks: Compile(Type.Array(Id, { maxItems: MAX_IMAGES })),
  placesOf: Compile(Type.Array(Type.Object({ directory: Text, problem: TextOrNull }), { maxItems: MAX_IMAGES })),
  startSandbox: Compile(
    Type.Object({ trace: Type.Array(Type.Object({ step: Id, durationMs: DurationMs }), { maxItems: MAX_FEW }) }),
  ),
  stopSandbox: Compile(Type.Object({ damages: Type.Array(Text, { maxItems: MAX_FEW }) })),
  listSandboxes: Compile(Type.Array(Type.Object({ id: Id, ownEnd: CauseOrNull }), { maxItems: MAX_SANDBOXES })),
  ownEnd: Compile(CauseOrNull),
  exportDisk: Compile(
    Type.Object({
      sizeBytes: Bytes,
      fileSystem: Type.Object({
        type: Type.Literal("ext4"),
        uuid: Type.String({ pattern: "^[0-9a-f]{32}$" }),
        sizeBytes: Bytes,
      }),
      // An older node has none.
      changed: Type.Optional(Type.Array(Type.Object({ offset: Bytes, length: Bytes }), { maxItems: MAX_PARTS })),
    }),
  ),
  importDisk: Compile(Nothing),
};

const EVENT = Compile(
  Type.Union([
    Type.Object({ kind: Type.Literal("volume-damaged"), volumeId: Id, message: Text }),
    Type.Object({
      kind: Type.Literal("pool-full"),
      region: Region,
      volumeIds: Type.Array(Id, { maxItems: MAX_IMAGES }),
    }),
    Type.Object({ kind: Type.Literal("sandbox-exited"), sandboxId: Id, cause: Cause }),
    Type.Object({
      kind: Type.Literal("background-error"),
      work: Type.Union([Type.Literal("storage"), Type.Literal("space-guard"), Type.Literal("retry")]),
    }),
    Type.Object({ kind: Type.Literal("node-stopping") }),
  ]),
);
const EVENT_FRAME = Compile(Type.Object({ id: Count, event: Type.Unknown() }));

/** Whether that is an answer to that call. */
export function isAnswer(method: AnsweringMethod, value: unknown): boolean {
  return ANSWERS[method].Check(value);
}

/** An event and its number, by which it is answered. `event` is null when it is none, or of a region that the node does not have. Throws for what has no number. */
export function readEvent(
  body: Buffer,
  regions: ReadonlySet<string>,
): { readonly id: number; readonly event: LinkEvent | null } {
  const frame = parseCleaned(body);
  if (!EVENT_FRAME.Check(frame)) throw new Error("the node does not speak this protocol");
  const { id, event } = frame;
  if (!EVENT.Check(event)) return { id, event: null };
  const isOfNode = event.kind !== "pool-full" || regions.has(event.region);
  return { id, event: isOfNode ? event : null };
}

/** Parses JSON, and cleans every text in it. */
export function parseCleaned(bytes: Buffer): unknown {
  return JSON.parse(bytes.toString(), (_key, value: unknown) => (typeof value === "string" ? cleanText(value) : value));
}

/**
 * A text that every store takes and every terminal shows: cut, and what controls a terminal or is no character replaced. PostgreSQL refuses NUL, and a sandbox's end
 * must not fail for its text.
 */
function cleanText(text: string): string {
  return text
    .slice(0, MAX_TEXT_LENGTH)
    .toWellFormed()
    .replace(/(?![\n\t])\p{Cc}/gu, "\ufffd");
}

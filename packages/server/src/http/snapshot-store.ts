import { ErrorSchema } from "@caisson/protocol";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { finishKeyRotation, rotateInstallationKey } from "../app/replication/installation-key-rotate.ts";
import { acceptSnapshotStore } from "../app/replication/snapshot-store-accept.ts";
import { getSnapshotStore } from "../app/replication/snapshot-store-get.ts";
import { endWithClient } from "./end-with-client.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["administration"];

const SnapshotStoreSchema = Type.Object({
  url: Type.String(),
  id: Type.Union([Type.String(), Type.Null()], {
    description: "Which store has the snapshots that are replicated; null: none is known yet",
  }),
  problem: Type.Union([Type.String(), Type.Null()], { description: "Why it cannot be used, with what to do" }),
  replicas: Type.Integer({ description: "Snapshots of all organizations that are replicated" }),
  waiting: Type.Integer({ description: "Those that are to be" }),
  failing: Type.Integer({ description: "Of these, those whose last try failed" }),
  oldest_waiting_at: Type.Union([Type.String({ format: "date-time" }), Type.Null()], {
    description: "When the oldest of them was taken",
  }),
  last_upload_at: Type.Union([Type.String({ format: "date-time" }), Type.Null()], {
    description: "When this run of the server brought a snapshot there last",
  }),
  last_error: Type.Union([Type.String(), Type.Null()], {
    description: "Why the last try of this run failed; null: it did not",
  }),
  key_rotation: Type.Union(
    [
      Type.Object({
        stage: Type.Union([Type.Literal("waiting"), Type.Literal("finishing")], {
          description:
            "`waiting`: the former key is in use, and the new one opens everything as well, until it is shown to be kept elsewhere. `finishing`: the new one is in use, and what another one opens is to be taken away. Both end by `finish-key-rotation`",
        }),
        since: Type.String({ format: "date-time" }),
        problem: Type.Union([Type.String(), Type.Null()], {
          description: "What keeps it from being finished on this server, with what to do",
        }),
      }),
      Type.Null(),
    ],
    { description: "A rotation of the installation's key that is not at its end" },
  ),
});

const KeyRotationSchema = Type.Object({
  outcome: Type.Union([Type.Literal("waiting"), Type.Literal("finished"), Type.Literal("checked")], {
    description:
      "`waiting`: both keys open everything, until the rotation is finished. `finished`: the new one alone does. `checked`: a dry run, which changed nothing",
  }),
  organization_keys: Type.Integer({ description: "Keys of organizations that were wrapped anew, or opened" }),
  new_key_file: Type.Union([Type.String(), Type.Null()], {
    description: "Where the new key lies in the server's data directory until it is in use; null: none waits",
  }),
  former_key_file: Type.Union([Type.String(), Type.Null()], {
    description: "Where the former key lies in the server's data directory; null: this call has replaced none",
  }),
});

/** The snapshot store as a whole: for administrators. */
export function snapshotStoreRoutes(app: AppContext, http: Http): void {
  http.get(
    "/api/v1/snapshot-store",
    {
      schema: {
        tags,
        summary: "How the snapshot store stands, and what keeps the server from using it",
        response: { 200: SnapshotStoreSchema, ...errors },
      },
    },
    async ({ actor }) => getSnapshotStore(app, actor),
  );
  http.post(
    "/api/v1/snapshot-store/accept",
    {
      schema: {
        tags,
        summary:
          "Take the store of the settings, as it is, for this installation's from now on: what is replicated is uploaded again, and no other server may use it",
        body: Type.Object(
          {
            new_key: Type.Optional(
              Type.Boolean({
                description:
                  "Make a new installation key in place of one that is lost for good. What the old one has encrypted cannot be read any more",
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({ waiting: Type.Integer({ description: "Snapshots that are uploaded again" }) }),
          ...errors,
        },
      },
    },
    async ({ actor, body }, reply) => ({
      waiting: await acceptSnapshotStore(app, actor, {
        isKeyNew: body.new_key ?? false,
        signal: endWithClient(reply, "The client that accepts a snapshot store left"),
      }),
    }),
  );
  http.post(
    "/api/v1/snapshot-store/rotate-key",
    {
      schema: {
        tags,
        summary:
          "Make a new installation key, and wrap the keys of all organizations by it as well. Nothing is encrypted anew. The former key stays in use, and both open everything, until the rotation is finished; a rotation that waits goes on with the same new key. Keep that elsewhere, by `caisson keys export --new` on the server",
        body: Type.Object(
          {
            dry_run: Type.Optional(
              Type.Boolean({ description: "Only open every key of the store with the key that there is" }),
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: KeyRotationSchema, ...errors },
      },
    },
    async ({ actor, body }, reply) =>
      rotateInstallationKey(app, actor, {
        isDryRun: body.dry_run ?? false,
        signal: endWithClient(reply, "The client that rotates the installation key left"),
      }),
  );
  http.post(
    "/api/v1/snapshot-store/finish-key-rotation",
    {
      schema: {
        tags,
        summary:
          "Use the new installation key from now on, and take away what the former one opens, given a proof that the new one is kept elsewhere. A finish that was cut off is gone on with",
        body: Type.Object(
          {
            proof: Type.String({
              pattern: "^[0-9a-f]{64}$",
              description:
                "HMAC-SHA-256 of `caisson key kept` and a line break under the 32 bytes of the new key, which `caisson keys export --new` printed in hexadecimal after `caisson-key-1:`",
            }),
          },
          { additionalProperties: false },
        ),
        response: { 200: KeyRotationSchema, ...errors },
      },
    },
    async ({ actor, body }, reply) =>
      finishKeyRotation(app, actor, {
        proof: body.proof,
        signal: endWithClient(reply, "The client that finishes the rotation of the installation key left"),
      }),
  );
}

import { ErrorSchema } from "@caisson/protocol";
import { type Static, Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { setNodeAddress } from "../app/nodes/node-address-set.ts";
import { drainNode } from "../app/nodes/node-drain.ts";
import { forgetNode, getNodeLoss } from "../app/nodes/node-forget.ts";
import { getNode, nodeProblem } from "../app/nodes/node-get.ts";
import { listNodes } from "../app/nodes/node-list.ts";
import type { NodeRecord } from "../app/records.ts";
import { IdParams, parseFlag } from "./disk-routes.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["administration"];

const Timestamp = (description: string) => Type.String({ format: "date-time", description });
const NodeSchema = Type.Object({
  id: Type.String(),
  state: Type.Union([Type.Literal("live"), Type.Literal("draining"), Type.Literal("suspect"), Type.Literal("lost")], {
    description:
      "draining: it gets no new sandboxes. suspect: its lease has run out, so that nobody knows how it is. lost: it was given up, and is being forgotten",
  }),
  draining: Type.Boolean(),
  regions: Type.Array(Type.String()),
  address: Type.String({ description: "Host name or address; with a port, where the server connects to it" }),
  connected: Type.Boolean({ description: "Whether this server reaches it, so that what it has can be used" }),
  problem: Type.Union([Type.String(), Type.Null()], { description: "Why this server does not reach it" }),
  run: Type.String({ description: "Which start of its process began last; empty: none yet" }),
  free: Type.Record(Type.String(), Type.Integer(), {
    description:
      "Bytes that its pools have free, by region, as it said last; those of which it has said nothing are absent",
  }),
  labels: Type.Record(Type.String(), Type.String()),
  generation: Type.Integer({ description: "Raised at each start" }),
  started_at: Timestamp("Of its last start"),
  seen_at: Timestamp("Its last sign of life"),
  lease_until: Timestamp("Until when it counts as live without another one"),
  certificate_until: Type.Union([Type.String({ format: "date-time" }), Type.Null()], {
    description:
      "Until when its certificate is good, which is renewed when a third of its time is left; null: it needs none, being in the server's own process, or was not connected yet",
  }),
  places: Type.Integer({ description: "Sandboxes that it may run" }),
  places_taken: Type.Integer({ description: "Those that it runs, starts or ends" }),
  memory_mib: Type.Union([Type.Integer(), Type.Null()], {
    description: "Memory that its sandboxes may have together; null: they share what the host has",
  }),
  memory_taken_mib: Type.Integer({ description: "What they were given" }),
});

const Count = (description: string) => Type.Integer({ description });
const LossSchema = Type.Object({
  volumes: Count("Also deleted ones, which could be restored"),
  volume_names: Type.Array(Type.Object({ organization: Type.String(), slug: Type.String() }), {
    description: "The first hundred of them, the oldest first",
  }),
  snapshots: Count("Those without a whole copy in the snapshot store"),
  replicated_snapshots: Count("Those with one: they stay usable, and nothing of them is lost"),
  sandboxes: Count("Those that have not ended"),
});
const AddressBody = Type.Object({
  address: Type.String({ minLength: 1, maxLength: 300, description: "HOST:PORT, where the server reaches the node" }),
});
const ForgetQuery = Type.Object({
  lost: Type.Optional(
    Type.Union([Type.String(), Type.Array(Type.String())], {
      description: "true (or 1): what it has is lost with it. Refused while it is live or connected. Default: false",
    }),
  ),
});

/** The machines that hold disks and run sandboxes: for administrators. */
export function nodeRoutes(app: AppContext, http: Http): void {
  const show = (node: NodeRecord) => showNode(node, nodeProblem(app, node));
  http.get(
    "/api/v1/nodes",
    { schema: { tags, summary: "List the nodes", response: { 200: Type.Array(NodeSchema), ...errors } } },
    async ({ actor }) => (await listNodes(app, actor)).map(show),
  );
  http.get(
    "/api/v1/nodes/:id",
    { schema: { tags, summary: "Get a node", params: IdParams, response: { 200: NodeSchema, ...errors } } },
    async ({ actor, params }) => show(await getNode(app, actor, params.id)),
  );
  http.get(
    "/api/v1/nodes/:id/loss",
    {
      schema: {
        tags,
        summary: "What would be lost with a node if it were forgotten as lost",
        params: IdParams,
        response: { 200: LossSchema, ...errors },
      },
    },
    async ({ actor, params }) => {
      const { volumes, volumeNames, snapshots, replicatedSnapshots, sandboxes } = await getNodeLoss(
        app,
        actor,
        params.id,
      );
      return {
        volumes,
        volume_names: [...volumeNames],
        snapshots,
        replicated_snapshots: replicatedSnapshots,
        sandboxes,
      };
    },
  );
  const changes = [
    ["drain", "Keep new sandboxes away from a node; those that it has go on", true],
    ["undrain", "Let a node have new sandboxes again", false],
  ] as const;
  for (const [verb, summary, isDraining] of changes)
    http.post(
      `/api/v1/nodes/:id/${verb}`,
      { schema: { tags, summary, params: IdParams, response: { 200: NodeSchema, ...errors } } },
      async ({ actor, params }) => show(await drainNode(app, actor, params.id, isDraining)),
    );
  http.patch(
    "/api/v1/nodes/:id",
    {
      schema: {
        tags,
        summary: "Say where a node is from now on; a connection that stands stays",
        params: IdParams,
        body: AddressBody,
        response: { 200: NodeSchema, ...errors },
      },
    },
    async ({ actor, params, body }) => show(await setNodeAddress(app, actor, params.id, body.address)),
  );
  http.delete(
    "/api/v1/nodes/:id",
    {
      schema: {
        tags,
        summary:
          "Forget a node that is gone for good; refused while it is live, and, unless it is lost with them, while it has volumes, snapshots or sandboxes",
        params: IdParams,
        querystring: ForgetQuery,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params, query }, reply) => {
      await forgetNode(app, actor, params.id, { isLost: parseFlag("lost", query.lost) });
      return reply.status(204).send(null);
    },
  );
}

function stateOf({ isLive, isDraining, lostAtMs }: NodeRecord): Static<typeof NodeSchema>["state"] {
  if (lostAtMs !== null) return "lost";
  if (!isLive) return "suspect";
  return isDraining ? "draining" : "live";
}

function showNode(node: NodeRecord, problem: string | null): Static<typeof NodeSchema> {
  const { capacity, reserved, isDraining } = node;
  const iso = (timeMs: number) => new Date(timeMs).toISOString();
  return {
    id: node.id,
    state: stateOf(node),
    draining: isDraining,
    regions: [...node.regions],
    address: node.address,
    connected: problem === null,
    problem,
    run: node.runId,
    free: { ...node.freeBytes },
    labels: { ...node.labels },
    generation: node.generation,
    started_at: iso(node.startedAtMs),
    seen_at: iso(node.seenAtMs),
    lease_until: iso(node.leaseUntilMs),
    certificate_until: node.certificateUntilMs === null ? null : iso(node.certificateUntilMs),
    places: capacity.places,
    places_taken: reserved.places,
    memory_mib: capacity.memoryMib,
    memory_taken_mib: reserved.memoryMib,
  };
}

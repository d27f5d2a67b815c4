import {
  CreatedSshAccessSchema,
  ErrorSchema,
  SshEndpointSchema,
  SshKeyBodySchema,
  SshKeySchema,
  SshRevokeBodySchema,
} from "@caisson/protocol";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import type { SshKey } from "../app/records.ts";
import { createSshAccess } from "../app/ssh/ssh-access-create.ts";
import { revokeSshAccess } from "../app/ssh/ssh-access-revoke.ts";
import { addSshKey } from "../app/ssh/ssh-key-add.ts";
import { listSshKeys } from "../app/ssh/ssh-key-list.ts";
import { removeSshKey } from "../app/ssh/ssh-key-remove.ts";
import { IdParams } from "./disk-routes.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["ssh"];
const ACCESS_URL = "/api/v3/sandbox/:id/expose/ssh";
const KEYS_URL = "/api/v1/ssh-keys";

/** SSH user names of sandboxes (protocol.md 2.5); revoking, keys and what clients need to know of the server are ours. */
export function sshRoutes(app: AppContext, http: Http): void {
  http.post(
    ACCESS_URL,
    {
      schema: {
        tags,
        summary: "Make an SSH user name that lets in whoever knows it, until the sandbox ends",
        params: IdParams,
        response: { 200: CreatedSshAccessSchema, ...errors },
      },
    },
    async ({ actor, params }) => {
      const { hostname, username, port } = await createSshAccess(app, actor, params.id);
      return { hostname, username, port };
    },
  );
  http.delete(
    ACCESS_URL,
    {
      schema: {
        tags,
        summary: "Revoke an SSH user name of a sandbox, or all of them, and end the connections by them",
        params: IdParams,
        body: SshRevokeBodySchema,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params, body }, reply) => {
      await revokeSshAccess(app, actor, params.id, body.username ?? null);
      return reply.status(204).send(null);
    },
  );
  http.get(
    "/api/v1/ssh",
    {
      schema: {
        tags,
        summary: "Where SSH clients connect, and by which key they know the server",
        response: { 200: SshEndpointSchema, ...errors },
      },
    },
    async () => {
      const { hostname, port, hostKey, fingerprint } = app.ssh.requireEndpoint();
      return { hostname, port, host_key: hostKey, fingerprint };
    },
  );
  http.get(
    KEYS_URL,
    {
      schema: {
        tags,
        summary: "List the public keys that may log in to the organization's sandboxes",
        response: { 200: Type.Array(SshKeySchema), ...errors },
      },
    },
    async ({ actor }) => (await listSshKeys(app, actor)).map(wireKey),
  );
  http.post(
    KEYS_URL,
    {
      schema: {
        tags,
        summary: "Let a public key log in to every sandbox of the organization",
        body: SshKeyBodySchema,
        response: { 200: SshKeySchema, ...errors },
      },
    },
    async ({ actor, body }) => wireKey(await addSshKey(app, actor, body.public_key, body.name ?? null)),
  );
  http.delete(
    `${KEYS_URL}/:id`,
    {
      schema: {
        tags,
        summary: "Remove a public key, and end the connections by it",
        params: IdParams,
        response: { 204: Type.Null(), ...errors },
      },
    },
    async ({ actor, params }, reply) => {
      await removeSshKey(app, actor, params.id);
      return reply.status(204).send(null);
    },
  );
}

function wireKey({ id, name, type, publicKey, fingerprint, createdAtMs }: SshKey) {
  return {
    id,
    name,
    type,
    public_key: `${type} ${publicKey}`,
    fingerprint,
    created_at: new Date(createdAtMs).toISOString(),
  };
}

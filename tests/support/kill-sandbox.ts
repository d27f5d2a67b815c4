import assert from "node:assert/strict";
import { eventually } from "./eventually.ts";
import type { TestServer } from "./server.ts";

/** Ends a sandbox; resolves when it has ended and its volumes are free. That is so with 204; with 202, which a busy machine may lead to, the end goes on. */
export async function killSandbox(server: TestServer, id: string, path = "/api/v3/sandbox"): Promise<void> {
  const { status } = await server.request(`${path}/${id}`, { method: "DELETE" });
  if (status === 202)
    await eventually(`the end of ${id}`, async () => {
      const shown = await (await server.request(`/api/v3/sandbox/${id}`)).json();
      return (shown as { readonly status: string }).status === "stopped" || null;
    });
  else assert.equal(status, 204);
}

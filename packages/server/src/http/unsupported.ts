import { CaissonError } from "@caisson/model";
import type { Http } from "./request.ts";

/** Parts of the hosted service that Caisson does not offer: they say so, instead of looking like a mistyped path. */
const UNSUPPORTED: readonly { readonly url: string; readonly feature: string }[] = [
  { url: "/api/v2/apps", feature: "apps" },
  { url: "/api/v2/apps/*", feature: "apps" },
  { url: "/api/v2/revisions/*", feature: "revisions" },
  { url: "/api/v2/layers", feature: "layers" },
  { url: "/api/v2/layers/*", feature: "layers" },
  { url: "/api/v2/sandboxes/:id/deploy", feature: "deploying a sandbox" },
];

/** Where the gateway takes upgrades to WebSocket (`gateway/`). */
const UPGRADES: readonly string[] = ["/api/v3/sandboxes/create", "/api/v3/sandbox/:id/connect"];

/** What is only there to say what is wrong. */
export function unsupportedRoutes(http: Http): void {
  for (const url of UPGRADES) {
    http.get(url, { schema: { hide: true } }, async () => {
      throw new CaissonError(
        "INVALID_REQUEST",
        "This is a place for an upgrade to WebSocket, and the request asks for none. If a proxy stands in front, it must pass on the headers Upgrade and Connection",
      );
    });
  }
  for (const { url, feature } of UNSUPPORTED) {
    http.all(url, { schema: { hide: true } }, async () => {
      throw new CaissonError("NOT_SUPPORTED", `This server does not offer ${feature}`);
    });
  }
}

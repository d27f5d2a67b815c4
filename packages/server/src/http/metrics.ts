import { ErrorSchema } from "@caisson/protocol";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { readMetrics } from "../app/metrics-read.ts";
import type { Http } from "./request.ts";

/** Prometheus' text format, version 0.0.4. */
const MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Figures for an operator's monitoring, where scrapers look for them. */
export function metricsRoutes(app: AppContext, http: Http): void {
  http.get(
    "/metrics",
    {
      schema: {
        tags: ["administration"],
        summary: "Figures of the server in the Prometheus text format, for administrators",
        response: {
          200: {
            description: "One line for each figure; docs/metrics.md lists them",
            content: { [MEDIA_TYPE]: { schema: Type.String() } },
          },
          "4xx": ErrorSchema,
          "5xx": ErrorSchema,
        },
      },
    },
    async ({ actor }, reply) => {
      const text = await readMetrics(app, actor);
      return reply.type(MEDIA_TYPE).send(text);
    },
  );
}

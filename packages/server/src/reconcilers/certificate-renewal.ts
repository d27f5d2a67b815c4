import type { AppContext } from "../app/context.ts";
import { renewalDueAtMs, renewNodeCertificate } from "../app/nodes/node-certificate.ts";
import type { RemoteNode } from "../app/nodes/remote-node.ts";
import { runEvery } from "./run-every.ts";

const LOOK_INTERVAL_MS = 10 * 60_000;

/**
 * Keeps the certificate of a node that this server is connected to from expiring, and the row knowing until when it is good. It is renewed when a third of its time is left, so that what fails is tried again for two months; the log
 * tells of the first failure of several.
 */
export class CertificateRenewals {
  readonly #app: Pick<AppContext, "store" | "authority" | "metrics" | "logger">;
  readonly #nodeId: string;
  readonly #remote: Pick<RemoteNode, "certificate" | "renewCertificate">;
  #recordedUntilMs: number | null = null;
  #isFailing = false;

  constructor(
    app: Pick<AppContext, "store" | "authority" | "metrics" | "logger">,
    nodeId: string,
    remote: Pick<RemoteNode, "certificate" | "renewCertificate">,
  ) {
    this.#app = app;
    this.#nodeId = nodeId;
    this.#remote = remote;
  }

  /** Looks now and again until the returned function is called; that resolves when it looks no more. */
  start(): () => Promise<void> {
    const first = this.look();
    const stop = runEvery(LOOK_INTERVAL_MS, () => this.look());
    return async () => {
      await Promise.all([first, stop()]);
    };
  }

  async look(nowMs = Date.now()): Promise<void> {
    const { store, metrics, logger } = this.#app;
    const nodeId = this.#nodeId;
    const current = this.#remote.certificate;
    if (current === null) return;
    try {
      if (this.#recordedUntilMs !== current.untilMs)
        await store.nodes.setCertificateUntil(nodeId, current.untilMs, null);
      this.#recordedUntilMs = current.untilMs;
      if (nowMs < renewalDueAtMs(current)) return;
      const { untilMs } = await renewNodeCertificate(this.#app, nodeId, this.#remote);
      this.#recordedUntilMs = untilMs;
      this.#isFailing = false;
      logger.info({ nodeId, until: new Date(untilMs).toISOString() }, "the certificate of a node was renewed");
    } catch (error) {
      metrics.countBackgroundError("certificate");
      if (!this.#isFailing)
        logger.error(
          { err: error, nodeId, until: new Date(current.untilMs).toISOString() },
          "cannot renew the certificate of a node; it is tried again",
        );
      this.#isFailing = true;
    }
  }
}

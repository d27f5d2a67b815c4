import { X509Certificate } from "node:crypto";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../app/context.ts";
import type { BelievedAuthority } from "../app/nodes/installation-authority.ts";
import { renewalDueAtMs, renewNodeCertificate } from "../app/nodes/node-certificate.ts";
import type { RemoteNode } from "../app/nodes/remote-node.ts";
import { runEvery } from "./run-every.ts";

const LOOK_INTERVAL_MS = 10 * 60_000;

/** How the certificate of a node is signed, and what the node believes. */
interface Trust {
  readonly signer: BelievedAuthority;
  /** Whether the newest authority has signed it, and the node was told last to believe those that are believed now. */
  readonly isUpToDate: boolean;
}

/**
 * Keeps the certificate of a node that this server is connected to from expiring, and the row knowing which it has. It is renewed when a third of its time is left, so that what fails is tried again for two months, and when the installation's authority is renewed or the old one is
 * retired; the log tells of the first failure of several.
 */
export class CertificateRenewals {
  readonly #app: Pick<AppContext, "store" | "authority" | "metrics" | "logger">;
  readonly #nodeId: string;
  readonly #remote: Pick<RemoteNode, "certificate" | "renewCertificate">;
  readonly #onUnbelieved: (error: Error) => void;
  /** Which certificate the row knows. */
  #recordedPem: string | null = null;
  #isFailing = false;
  #looking: Promise<void> = Promise.resolve();

  /** `onUnbelieved`: the connection is with a node whose certificate no authority has signed that is believed: it has to end. */
  constructor(
    app: Pick<AppContext, "store" | "authority" | "metrics" | "logger">,
    nodeId: string,
    remote: Pick<RemoteNode, "certificate" | "renewCertificate">,
    onUnbelieved: (error: Error) => void,
  ) {
    this.#app = app;
    this.#nodeId = nodeId;
    this.#remote = remote;
    this.#onUnbelieved = onUnbelieved;
  }

  /** Looks now and again, and when the authority changes, until the returned function is called; that resolves when it looks no more. */
  start(): () => Promise<void> {
    void this.look();
    const stop = runEvery(LOOK_INTERVAL_MS, () => this.look());
    const stopListening = this.#app.authority.onChange(() => void this.look());
    return async () => {
      stopListening();
      await stop();
      await this.#looking;
    };
  }

  /** After a look that is under way: a node knows one signing request at a time. Never rejects. */
  look(nowMs = Date.now()): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look(nowMs));
    return this.#looking;
  }

  async #look(nowMs: number): Promise<void> {
    const { store, metrics, logger } = this.#app;
    const nodeId = this.#nodeId;
    const current = this.#remote.certificate;
    if (current === null) return;
    const { pem, untilMs } = current;
    try {
      const trust = await this.#trust(pem);
      if (trust === null) return;
      const seen = { untilMs, authority: trust.signer.number, oldestAuthority: null };
      if (this.#recordedPem !== pem) await store.nodes.setCertificate(nodeId, seen, null);
      this.#recordedPem = pem;
      if (nowMs < renewalDueAtMs(current) && trust.isUpToDate) return;
      const renewed = await renewNodeCertificate(this.#app, nodeId, this.#remote);
      this.#recordedPem = renewed.pem;
      this.#isFailing = false;
      const until = new Date(renewed.untilMs).toISOString();
      logger.info({ nodeId, until }, "the certificate of a node was renewed");
    } catch (error) {
      metrics.countBackgroundError("certificate");
      if (!this.#isFailing)
        logger.error(
          { err: error, nodeId, until: new Date(untilMs).toISOString() },
          "cannot renew the certificate of a node; it is tried again",
        );
      this.#isFailing = true;
    }
  }

  /** Null: nobody believes the certificate any more. */
  async #trust(pem: string): Promise<Trust | null> {
    const { store, authority } = this.#app;
    const believed = await authority.believed();
    const certificate = new X509Certificate(pem);
    const signer = believed.find((by) =>
      certificate.verify(new X509Certificate(by.authority.certificatePem).publicKey),
    );
    if (signer === undefined) {
      this.#onUnbelieved(
        new CaissonError("NODE_UNAVAILABLE", "the authority that has signed its certificate was retired"),
      );
      return null;
    }
    // Whoever was told nothing believes the first.
    const oldest = (await store.nodes.get(this.#nodeId))?.oldestAuthority ?? 1;
    return { signer, isUpToDate: signer === believed.at(-1) && oldest === believed[0].number };
  }
}

import type { Duplex } from "node:stream";
import { CaissonError, randomCharacters } from "@caisson/model";
import type { LiveSandbox } from "../sandboxes/live-sandboxes.ts";
import { ExposureLink } from "./exposure-link.ts";
import type { Preview } from "./preview.ts";
import { SandboxTraffic, type TrafficLimits } from "./sandbox-traffic.ts";

/** 131 bits. */
const LABEL_CHARACTERS = 26;
const PREVIEWS_PER_SANDBOX_MAX = 64;

/** What there is of one sandbox. */
interface Entry {
  readonly sandbox: LiveSandbox;
  readonly previews: Set<Preview>;
  readonly traffic: SandboxTraffic;
  readonly link: ExposureLink;
}

/** The previews of this host. They end with their sandboxes, so nothing of them is stored. */
export class Previews {
  readonly #domain: string;
  readonly #limits: TrafficLimits;
  readonly #openAgent: (sandbox: LiveSandbox) => Duplex;
  readonly #byLabel = new Map<string, Preview>();
  readonly #bySandbox = new Map<string, Entry>();
  #publicPort = 443;

  /** `openAgent` makes a connection to the agent of a sandbox. */
  constructor(domain: string, limits: TrafficLimits, openAgent: (sandbox: LiveSandbox) => Duplex) {
    this.#domain = domain;
    this.#limits = limits;
    this.#openAgent = openAgent;
  }

  /** Says which port is in addresses, once that is known. */
  setPublicPort(port: number): void {
    this.#publicPort = port;
  }

  /** `host`, or `host:port` where the port is not that of HTTPS. */
  authorityOf({ label }: Preview): string {
    const host = `${label}.${this.#domain}`;
    return this.#publicPort === 443 ? host : `${host}:${this.#publicPort}`;
  }

  /** The port that clients use. */
  get publicPort(): number {
    return this.#publicPort;
  }

  /** The preview with this host name, with or without a port; null when there is none, or its sandbox is ending. */
  find(authority: string): Preview | null {
    const host = authority.toLowerCase().replace(/:\d{1,5}$/, "");
    if (!host.endsWith(`.${this.#domain}`)) return null;
    const preview = this.#byLabel.get(host.slice(0, -this.#domain.length - 1));
    return preview === undefined || preview.sandbox.ending !== null ? null : preview;
  }

  of(sandboxId: string): readonly Preview[] {
    return [...(this.#bySandbox.get(sandboxId)?.previews ?? [])];
  }

  traffic({ sandbox }: Preview): SandboxTraffic {
    return this.#entry(sandbox).traffic;
  }

  /** Resolves when the agent can say what names are bound to. Throws `SANDBOX_START_FAILED` when it does not answer. */
  openLink(sandbox: LiveSandbox): Promise<void> {
    return this.#entry(sandbox).link.open();
  }

  /** Throws `CONCURRENCY_LIMIT_EXCEEDED`. */
  requireRoom({ record }: LiveSandbox): void {
    if (this.of(record.id).length < PREVIEWS_PER_SANDBOX_MAX) return;
    throw new CaissonError(
      "CONCURRENCY_LIMIT_EXCEEDED",
      `Sandbox ${record.id} has ${PREVIEWS_PER_SANDBOX_MAX} previews, which is the most: revoke one with "caisson previews revoke"`,
    );
  }

  newLabel(): string {
    return randomCharacters(LABEL_CHARACTERS);
  }

  add(preview: Preview): void {
    this.#byLabel.set(preview.label, preview);
    this.#entry(preview.sandbox).previews.add(preview);
  }

  /** Ends a preview and every connection through it. */
  remove(preview: Preview): void {
    this.#byLabel.delete(preview.label);
    const entry = this.#bySandbox.get(preview.sandbox.record.id);
    entry?.previews.delete(preview);
    entry?.traffic.endAll(preview);
  }

  #entry(sandbox: LiveSandbox): Entry {
    const { id } = sandbox.record;
    const known = this.#bySandbox.get(id);
    if (known !== undefined) return known;
    const entry: Entry = {
      sandbox,
      previews: new Set(),
      traffic: new SandboxTraffic(this.#limits),
      link: new ExposureLink(
        () => this.#openAgent(sandbox),
        (domain, target) => this.#bind(id, domain, target),
      ),
    };
    this.#bySandbox.set(id, entry);
    const forget = (): void => this.#forget(entry);
    void sandbox.exited.then(forget);
    void sandbox.ended.then(forget);
    return entry;
  }

  /** The answer to an agent, which can only speak of names of its own sandbox. Null: done. */
  #bind(sandboxId: string, domain: string, target: Preview["target"]): string | null {
    const preview = this.find(domain);
    if (preview?.sandbox.record.id !== sandboxId)
      return "this sandbox has no such name; reserve one with POST …/expose/http";
    preview.target = target;
    return null;
  }

  #forget(entry: Entry): void {
    for (const preview of [...entry.previews]) this.remove(preview);
    entry.link.close();
    this.#bySandbox.delete(entry.sandbox.record.id);
  }
}

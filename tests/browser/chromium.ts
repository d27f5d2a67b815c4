import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** What is used of a page of playwright-core, which `run.sh` installs and names by CAISSON_TEST_PLAYWRIGHT. */
export interface Page {
  goto(url: string): Promise<unknown>;
  url(): string;
  textContent(selector: string): Promise<string | null>;
  waitForSelector(selector: string, options?: { readonly timeout: number }): Promise<unknown>;
  waitForFunction(script: string): Promise<unknown>;
  /** Runs a script in the page and returns what it, or its promise, comes to. */
  evaluate<T>(script: string): Promise<T>;
  screenshot(options: { readonly path: string }): Promise<unknown>;
  readonly keyboard: { type(text: string): Promise<void>; press(keys: string): Promise<void> };
}

interface Browser {
  newPage(): Promise<Page>;
  close(): Promise<void>;
}

interface Playwright {
  readonly chromium: {
    launch(options: {
      readonly executablePath: string;
      readonly args: readonly string[];
      readonly env: NodeJS.ProcessEnv;
    }): Promise<Browser>;
  };
}

/** Debian's Chromium, with a home of its own in which it trusts one more authority. */
export class Chromium implements AsyncDisposable {
  readonly #home: string;
  readonly #browser: Browser;

  private constructor(home: string, browser: Browser) {
    this.#home = home;
    this.#browser = browser;
  }

  static async start(authorityPath: string): Promise<Chromium> {
    const playwrightPath = process.env.CAISSON_TEST_PLAYWRIGHT;
    if (playwrightPath === undefined) throw new Error('Run this by "npm run test:browser"');
    const { chromium } = createRequire(import.meta.url)(playwrightPath) as Playwright;
    const home = await mkdtemp(join(tmpdir(), "caisson-browser-"));
    const store = join(home, ".pki/nssdb");
    await mkdir(store, { recursive: true });
    const certutil = (...args: string[]) => promisify(execFile)("certutil", ["-d", `sql:${store}`, ...args]);
    await certutil("-N", "--empty-password");
    await certutil("-A", "-t", "C,,", "-n", "Caisson previews", "-i", authorityPath);
    const browser = await chromium.launch({
      executablePath: "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-dev-shm-usage"],
      env: { ...process.env, HOME: home, XDG_CONFIG_HOME: join(home, ".config"), XDG_CACHE_HOME: join(home, ".cache") },
    });
    return new Chromium(home, browser);
  }

  page(): Promise<Page> {
    return this.#browser.newPage();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
    await rm(this.#home, { recursive: true });
  }
}

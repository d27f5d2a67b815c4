import type { Command } from "commander";
import { asCalled } from "../called-as.ts";
import { CliError } from "../cli-error.ts";
import { type Context, loadSdk } from "../context.ts";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatDuration } from "../output/format.ts";
import { renderTable } from "../output/table.ts";
import { Steps, type Timing } from "../quickstart/steps.ts";
import { isOnPath, LINK_OFFER } from "../server-process/launcher-link.ts";
import { prepareHost } from "../server-process/prepare-host.ts";
import { TemporaryServer } from "../server-process/temporary-server.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";

const EXPECTED = "Persist me!";
/** Whoever wants it sooner can press Ctrl-C. */
const PATIENCE_MS = 600_000;

const NEXT = `Next, run a server of your own:

  caisson up                          in one shell
  eval "$(caisson env)"               in another; official clients need no more
  caisson create                      a sandbox and a terminal in it
  caisson --help                      everything else`;

/** `caisson quickstart`. */
export function addQuickstartCommand(program: Command): void {
  const command = program
    .command("quickstart")
    .description("Install what is missing, then watch a file outlive the sandbox that wrote it")
    .action(run(quickstart));
  addOutputOptions(command);
  addExamples(command, [["caisson quickstart", "The first time it makes an image, which takes minutes; then seconds"]]);
}

/** Leaves nothing behind but the packages and the image in the cache, whether it succeeds, fails or is interrupted. */
async function quickstart(context: Context): Promise<void> {
  const { output } = context;
  const steps = new Steps(output);
  await withInterrupt(async (signal) => {
    await steps.run("check this host", prepareHost);
    signal.throwIfAborted();
    const text = await demonstrate(context, steps, signal);
    if (text !== EXPECTED)
      throw new CliError("QUICKSTART_FAILED", EXIT.failure, `The second sandbox read ${JSON.stringify(text)}`);
    report(context, steps.timings, text);
  });
}

async function demonstrate({ output }: Context, steps: Steps, signal: AbortSignal): Promise<string> {
  const { ImageProgressDisplay } = await import("../quickstart/image-progress.ts");
  const { runScenario } = await import("../quickstart/scenario.ts");
  const { Client } = await loadSdk();
  using display = new ImageProgressDisplay(output);
  const server = await TemporaryServer.start(display.report);
  try {
    await steps.run("make the image builtin:debian-13, or find it in the cache", async () => {
      await server.hasImage(signal);
      display[Symbol.dispose]();
    });
    const { endpoint, token } = await steps.run("start a server in a directory of its own", () => server.ready(signal));
    const waits = { timeoutMs: PATIENCE_MS, connectTimeoutMs: PATIENCE_MS };
    return await runScenario(
      new Client({ apiEndpoint: endpoint, sandboxEndpoint: endpoint, token, ...waits }),
      steps,
      signal,
    );
  } finally {
    display[Symbol.dispose]();
    await steps.run("stop the server and remove its data", () => server[Symbol.asyncDispose]());
  }
}

function report({ output }: Context, timings: readonly Timing[], text: string): void {
  if (output.isJson) {
    output.value("", { text, steps: timings });
    return;
  }
  const { bold } = output.colors;
  output.text(output.isQuiet ? text : `\n${bold(text)}\n`);
  if (output.isQuiet) return;
  const columns = [
    { title: "STEP", value: ({ step }: Timing) => step },
    { title: "TIME", value: ({ durationMs }: Timing) => formatDuration(durationMs), isNumeric: true },
  ];
  output.text(`${renderTable(columns, timings, process.stdout.columns, bold).text}\n\n${asCalled(NEXT)}`);
  if (!isOnPath()) output.text(`\n${LINK_OFFER}`);
}

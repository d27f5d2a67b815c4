import { parseArgs } from "node:util";
import { CaissonError } from "@caisson/model";
import pino, { type Logger } from "pino";
import { parseJoinToken } from "./app/nodes/join-token.ts";
import { type Config, loadConfig } from "./config.ts";
import { runDatabaseCommand } from "./database/database-commands.ts";
import { runDoctor } from "./doctor/index.ts";
import { ownAddress } from "./node-process/node-address.ts";
import { startNode } from "./node-process/start-node.ts";
import { runRestoreCommand } from "./restore/restore-command.ts";
import { type ServerRole, startServer } from "./server.ts";

const USAGE = `usage: main.ts serve [--role all|control] [--data DIR] [--listen HOST:PORT] [--config FILE]
       main.ts serve --role node [--data DIR] [--config FILE] [--join TOKEN] [--address HOST:PORT]
       main.ts doctor [--data DIR] [--config FILE]
       main.ts database migrate|copy [--data DIR] [--config FILE]
       main.ts restore --from URL --key FILE --data DIR [--backup ID] [--nodes-lost] [--fetch] [--endpoint URL] [--s3-region NAME] [--path-style] [--ca FILE]
       main.ts drill --from URL --key FILE [--backup ID] [--nodes-lost] [--sample N|all] [--endpoint URL] [--s3-region NAME] [--path-style] [--ca FILE]`;

const USAGE_EXIT_CODE = 2;
const STOP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Entry of the server process. People use the \`caisson\` command, which starts this in namespaces of its own (scripts/isolate.sh). */
async function main(): Promise<void> {
  const [command] = process.argv.slice(2);
  if (command === "restore" || command === "drill") return runRestoreCommand(command, process.argv.slice(3));
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      data: { type: "string" },
      listen: { type: "string" },
      config: { type: "string" },
      role: { type: "string", default: "all" },
      join: { type: "string" },
      address: { type: "string" },
    },
  });
  const overrides = { dataDirectory: values.data, listen: values.listen, configPath: values.config };
  const config = checkUse(() => loadConfig(overrides, process.env));
  switch (positionals[0]) {
    case "serve": {
      if (values.role === "node") {
        checkUse(() => {
          if (values.join !== undefined) parseJoinToken(values.join);
          if (values.address !== undefined) ownAddress(values.address);
        });
        await runNode(config, values.join ?? null, values.address ?? null);
        break;
      }
      if (
        (values.role !== "all" && values.role !== "control") ||
        values.join !== undefined ||
        values.address !== undefined
      )
        return failUsage();
      await runServer(config, values.role);
      break;
    }
    case "doctor":
      console.log(JSON.stringify(await runDoctor(config)));
      break;
    case "database": {
      const [, command] = positionals;
      if (command === "migrate" || command === "copy")
        console.log(JSON.stringify(await runDatabaseCommand(config, command)));
      else failUsage();
      break;
    }
    default:
      failUsage();
  }
}

/** What is wrong with the settings, or with what an option says, is a mistake in the use, as an unknown option is. */
function checkUse<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    return fail(error, USAGE_EXIT_CODE);
  }
}

async function runServer(config: Config, role: ServerRole): Promise<void> {
  const logger = createLogger(config.logLevel);
  const stopWaiting = role === "control" ? exitAtSignal() : () => {};
  const server = await startServer(config, role, logger, {
    onDisplaced(error) {
      logger.fatal({ err: error }, "the server ends, because another one has taken its place");
      process.exit(1);
    },
    onStandby({ host, address }) {
      console.log(
        `Caisson stands by at ${config.listenHost}:${config.listenPort}: the server on ${host} leads, at ${address?.api.host}:${address?.api.port}, and connections are relayed to it`,
      );
    },
  });
  closeAtSignal(server);
  stopWaiting();
  const { endpoint } = server.credentials;
  const place = role === "all" ? `region ${config.regions.join(", ")}` : "without a node of its own";
  console.log(`Caisson is ready at ${endpoint} (${place}; data in ${config.dataDirectory})`);
  console.log(
    `Use it from another shell:  eval "$(${process.env.CAISSON_COMMAND || "caisson"} env --data ${config.dataDirectory})"`,
  );
  if (server.ssh !== null)
    console.log(`SSH at ${server.ssh.hostname} port ${server.ssh.port}; host key ${server.ssh.fingerprint}`);
}

async function runNode(config: Config, joinToken: string | null, address: string | null): Promise<void> {
  const dismissed = Promise.withResolvers<CaissonError>();
  // The kernel ends what it has with it. Nothing is unmounted in order: what is not written yet must not be any more.
  const options = { joinToken, address, onDismissed: dismissed.resolve, onExpelled: fail };
  const node = await startNode(config, options, createLogger(config.logLevel));
  closeAtSignal(node);
  void dismissed.promise.then(async (error) => {
    await node.close().catch(() => {});
    fail(error);
  });
  console.log(
    `Node ${node.nodeId} is ready at ${node.address} (region ${config.regions.join(", ")}; data in ${config.dataDirectory})`,
  );
}

function closeAtSignal(running: { close(): Promise<void> }): void {
  let isStopping = false;
  const stop = (): void => {
    // A terminal or a service manager signals every process of a group, and those around this one pass it on: it comes more than once.
    if (isStopping) return;
    isStopping = true;
    void running.close().then(() => process.exit(0), fail);
  };
  for (const signal of STOP_SIGNALS) process.on(signal, stop);
}

/** For a server that stands by, however long, and has nothing to release: the first process of a container ignores what it does not handle. Returns what ends it. */
function exitAtSignal(): () => void {
  const stop = (): never => process.exit(0);
  for (const signal of STOP_SIGNALS) process.on(signal, stop);
  return () => {
    for (const signal of STOP_SIGNALS) process.off(signal, stop);
  };
}

function failUsage(): void {
  console.error(USAGE);
  process.exitCode = USAGE_EXIT_CODE;
}

/** Logs go to standard error: as text on a terminal, else one JSON object a line. */
function createLogger(level: string): Logger {
  const options = { level, redact: ["req.headers.authorization", "token", "*.token"] };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: 2, sync: true }));
  return pino({
    ...options,
    transport: {
      target: "pino-pretty",
      options: { destination: 2, ignore: "pid,hostname,progress", translateTime: "HH:MM:ss.l" },
    },
  });
}

function fail(error: unknown, exitCode = 1): never {
  console.error(error instanceof CaissonError ? `caisson: ${error.message}` : error);
  process.exit(exitCode);
}

await main().catch(fail);

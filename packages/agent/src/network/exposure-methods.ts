import { AppError } from "../calls/errors.ts";
import { type Call, type MethodTable, method } from "../calls/method.ts";
import { count, optional, type ShapeOf, string } from "../calls/params.ts";

const PORT_MAX = 65_535;
const exposeShape = { domain: string, port: optional(count), pid: optional(count) };

/** Exposure (protocol.md 4.7). */
export const exposureMethods = { exposeHttp: method(exposeShape, exposeHttp) } satisfies MethodTable;

async function exposeHttp({ domain, port, pid }: ShapeOf<typeof exposeShape>, { sandbox }: Call): Promise<null> {
  if (pid !== undefined && port === undefined) {
    // Throws for one that is not known.
    sandbox.processes.get(pid);
    await sandbox.exposures.bind(domain, { pid });
  } else if (port !== undefined && pid === undefined && port >= 1 && port <= PORT_MAX) {
    await sandbox.exposures.bind(domain, { port });
  } else {
    throw new AppError(
      "TypeError",
      `Cannot expose ${domain}: give a port from 1 to ${PORT_MAX}, or the pid of a process`,
    );
  }
  return null;
}

import { parentPort, workerData } from "node:worker_threads";
import type { CopyMessage, CopyOrder } from "./copy-order.ts";
import { ImageCopy } from "./image-copy.ts";

/** The thread that makes one copy. Its calls block it, and nobody else; between a freeze and its thaw it depends on no other thread. */
const order = workerData as CopyOrder;
const tell = (message: CopyMessage): void => parentPort?.postMessage(message);
try {
  const copy = new ImageCopy({ order, announceFreeze: () => tell({ kind: "freezing" }) });
  copy.run((report, standing) => tell({ kind: "copied", report, standing }));
} catch (error) {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  tell({ kind: "failed", code, message: String(error) });
}

import type { Sandbox } from "@deno/sandbox";

export const VITE_PORT = 5173;
const VERSION = "8";

/** Installs Vite in the sandbox, from npm, and starts its development server on a page that shows what `message.js` exports. */
export async function startVite(sandbox: Sandbox): Promise<void> {
  await sandbox.fs.mkdir("/home/app/page");
  await sandbox.fs.writeTextFile("/home/app/page/package.json", '{"name":"page","private":true,"type":"module"}\n');
  await sandbox.fs.writeTextFile(
    "/home/app/page/index.html",
    '<!doctype html><p id="shown"></p><script type="module" src="/main.js"></script>\n',
  );
  await sandbox.fs.writeTextFile(
    "/home/app/page/main.js",
    `import { message } from "./message.js";
const show = (text) => { document.querySelector("#shown").textContent = text; };
show(message);
import.meta.hot.accept("./message.js", (next) => show(next.message));
`,
  );
  await writeMessage(sandbox, "first");
  await sandbox.sh`cd page && npm install --silent --no-audit --no-fund vite@${VERSION}`;
  await sandbox.spawn("npx", { args: ["vite"], cwd: "/home/app/page", stdout: "null", stderr: "null" });
  await sandbox.sh`until curl -s -o /dev/null http://localhost:${VITE_PORT}/; do sleep 0.1; done`;
}

export async function writeMessage(sandbox: Sandbox, text: string): Promise<void> {
  await sandbox.fs.writeTextFile("/home/app/page/message.js", `export const message = ${JSON.stringify(text)};\n`);
}

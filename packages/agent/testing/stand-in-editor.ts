/**
 * A small program with code-server's command line, for suites in which the real one, 400 MB, would be too slow to install. It installs an
 * extension by making its directory, and serves what it was started with as JSON, and an echo over WebSocket. STAND_IN makes it misbehave.
 */
export const STAND_IN_EDITOR = `#!/usr/bin/env node
const http = require("node:http");
const fs = require("node:fs");
const crypto = require("node:crypto");
const args = process.argv.slice(2);
const option = (name) => args.find((arg) => arg.startsWith("--" + name + "="))?.slice(name.length + 3);
const data = option("user-data-dir");
const extension = option("install-extension");
if (extension !== undefined) {
  if (extension === "no.such") {
    console.error("Extension 'no.such' not found.");
    process.exit(1);
  }
  fs.mkdirSync(data + "/extensions/" + extension + "-1.0.0", { recursive: true });
  process.exit(0);
}
if (process.env.STAND_IN === "end") {
  console.error("no room for an editor");
  process.exit(7);
}
const read = (path) => { try { return fs.readFileSync(path, "utf8"); } catch { return null; } };
const server = http.createServer((request, response) => {
  if (request.url === "/healthz") return response.end("{}");
  if (request.url === "/") return response.writeHead(302, { location: "/?folder=" + args.at(-1) }).end();
  response.end(JSON.stringify({
    args,
    token: process.env.DENO_DEPLOY_SANDBOX_TOKEN ?? null,
    own: process.env.OWN ?? null,
    settings: read(data + "/Machine/settings.json"),
    extensions: fs.existsSync(data + "/extensions") ? fs.readdirSync(data + "/extensions").sort() : [],
  }));
});
server.on("upgrade", (request, socket) => {
  // As code-server: pages of other origins may not connect.
  const host = request.headers["x-forwarded-host"] ?? request.headers.host;
  if (request.headers.origin !== undefined && new URL(request.headers.origin).host !== host) return socket.end("HTTP/1.1 403 Forbidden\\r\\n\\r\\n");
  const accept = crypto.createHash("sha1").update(request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  socket.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + "\\r\\n\\r\\n");
  socket.on("data", (frame) => {
    const opcode = frame[0] & 15, length = frame[1] & 127;
    if (opcode === 8) return socket.end(Buffer.from([0x88, 0]));
    const mask = frame.subarray(2, 6);
    socket.write(Buffer.concat([Buffer.from([0x81, length]), frame.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index & 3])]));
  });
});
console.log("starting");
const listen = () => server.listen(Number(option("port")), option("host"), () => console.log("serving " + args.at(-1)));
if (process.env.STAND_IN === "slow") setTimeout(listen, 2500);
else listen();
`;

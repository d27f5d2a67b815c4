import type { Socket } from "node:net";
import ssh2, {
  type AuthContext,
  type Connection,
  type PublicKeyAuthContext,
  type ServerChannel,
  type Session,
} from "ssh2";
import type { AppContext } from "../app/context.ts";
import { openAgent } from "../app/sandboxes/sandbox-connect.ts";
import { findLoginByKey, findLoginByName, type SshLogin } from "../app/ssh/ssh-login.ts";
import { endConnection } from "../http/end-connection.ts";
import { ALGORITHMS } from "./algorithms.ts";
import { forwardPort } from "./forward-port.ts";
import { ATTEMPTS_MAX, CHANNELS_MAX, KEEP_ALIVE_MS, KEEP_ALIVES_MAX, LOGIN_MS, UNSENT_BYTES_MAX } from "./limits.ts";
import { takesPackets } from "./packet-size.ts";
import { RekeyLimit } from "./rekey-limit.ts";
import { serveSession } from "./session-channel.ts";
import type { UnreadBytes } from "./unread-bytes.ts";

/** SHA-1 signatures by RSA keys come without a hash's name. */
const RSA_HASHES: ReadonlySet<string | undefined> = new Set(["sha256", "sha512"]);

export interface ConnectionSettings {
  readonly hostKey: string;
  readonly unread: UnreadBytes;
  /** Called once: at the login, or at the end without one. */
  readonly onAdmitted: (hasLoggedIn: boolean) => void;
}

/** Serves one client: it logs in to one sandbox, and whatever it does after that happens there. */
export class SshConnection {
  readonly #app: AppContext;
  readonly #socket: Socket;
  readonly #settings: ConnectionSettings;
  readonly #channels = new Set<ServerChannel>();
  readonly #undo: (() => void)[] = [];
  #client: Connection | null = null;
  #login: SshLogin | null = null;
  readonly #rekeys = new RekeyLimit();
  #attempts = 0;
  #channelCount = 0;
  readonly #loginTimer: NodeJS.Timeout;

  constructor(app: AppContext, socket: Socket, settings: ConnectionSettings) {
    this.#app = app;
    this.#socket = socket;
    this.#settings = settings;
    // One for each connection, so that it is known which socket is whose.
    const server = new ssh2.Server(
      {
        hostKeys: [settings.hostKey],
        algorithms: ALGORITHMS,
        ident: "Caisson",
        keepaliveInterval: KEEP_ALIVE_MS,
        keepaliveCountMax: KEEP_ALIVES_MAX,
      },
      (client: Connection) => this.#serve(client),
    );
    this.#loginTimer = setTimeout(() => socket.destroy(), LOGIN_MS);
    socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS).setMaxListeners(0);
    socket.once("close", () => {
      clearTimeout(this.#loginTimer);
      settings.onAdmitted(false);
      for (const undo of this.#undo) undo();
    });
    server.injectSocket(socket);
    // The library holds a client to no bound, so each piece that comes is an occasion to look.
    socket.on("data", () => this.#limit());
    this.#undo.push(settings.unread.add(this, () => this.#unreadBytes()));
  }

  /** Ends it: with a word if there is time. What the client still sends does nothing: it may come when the sandbox is gone. */
  end(): void {
    this.#client?.end();
    this.#socket.removeAllListeners("data");
    endConnection(this.#socket);
  }

  #serve(client: Connection): void {
    this.#client = client;
    client.on("error", () => undefined);
    client.on("authentication", (context) => void this.#authenticate(context));
    // No client does so before its login, and each time costs the server far more than the client.
    client.on("rekey", () => {
      if (this.#login === null || !this.#rekeys.take()) this.#socket.destroy();
    });
    client.on("session", (accept, reject) => {
      if (this.#takeChannel()) this.#serveSession(accept());
      else reject();
    });
    client.on("tcpip", (accept, reject, info) => {
      if (this.#login === null || !this.#takeChannel()) return reject();
      let channel: ServerChannel | null = null;
      const take = (): ServerChannel => {
        channel = accept();
        this.#addChannel(channel);
        return channel;
      };
      const give = (): void => {
        if (channel !== null) this.#channels.delete(channel);
        this.#channelCount -= 1;
      };
      forwardPort(this.#app, this.#login.sandbox, this.#socket, info, take, reject, give).catch((error: unknown) => {
        this.#app.logger.error({ err: error }, "cannot forward an SSH client's connection");
        give();
        reject();
      });
    });
  }

  /** A session that never becomes a channel keeps its place: the library forgets none of them. */
  #serveSession(session: Session): void {
    const sandbox = this.#login?.sandbox;
    if (sandbox === undefined) return;
    const { remoteAddress, remotePort, localAddress, localPort } = this.#socket;
    const client = `${remoteAddress} ${remotePort}`;
    serveSession(session, {
      socket: this.#socket,
      openAgent: () => openAgent(this.#app, sandbox),
      env: { SSH_CONNECTION: `${client} ${localAddress} ${localPort}`, SSH_CLIENT: `${client} ${localPort}` },
      onChannel: (channel) => this.#addChannel(channel),
      onEnd: (channel) => {
        if (this.#channels.delete(channel)) this.#channelCount -= 1;
      },
    });
  }

  async #authenticate(context: AuthContext): Promise<void> {
    this.#attempts += 1;
    if (this.#attempts > ATTEMPTS_MAX) return this.end();
    try {
      const login = await this.#findLogin(context);
      if (this.#socket.destroyed) return;
      const isQuestion = context.method === "publickey" && context.signature === undefined;
      if (login === null || (!isQuestion && !this.#admit(login))) context.reject(["publickey"]);
      else context.accept();
    } catch (error) {
      this.#app.logger.error({ err: error }, "cannot look at an SSH client's key");
      context.reject(["publickey"]);
    }
  }

  /** Null: nobody may log in like that. A user name that is a credential needs nothing else, by whatever method a client tries it. */
  async #findLogin(context: AuthContext): Promise<SshLogin | null> {
    const byName = findLoginByName(this.#app, context.username);
    if (byName !== null) return byName;
    if (context.method !== "publickey" || !isSignedBy(context)) return null;
    return await findLoginByKey(this.#app, context.username, context.key.data);
  }

  /** Counts the login. False: it came too late, or there are too many. */
  #admit(login: SshLogin): boolean {
    const leave = this.#app.ssh.open(login.sandbox, login.access, () => this.end());
    if (leave === null) return false;
    this.#login = login;
    this.#undo.push(
      leave,
      this.#app.connections.add(login.ownerId, () => this.end()),
    );
    clearTimeout(this.#loginTimer);
    this.#settings.onAdmitted(true);
    this.#app.logger.debug({ sandboxId: login.sandbox.record.id, owner: login.ownerId }, "SSH client logged in");
    return true;
  }

  #takeChannel(): boolean {
    if (this.#channelCount >= CHANNELS_MAX) return false;
    this.#channelCount += 1;
    return true;
  }

  #addChannel(channel: ServerChannel): void {
    this.#channels.add(channel);
    if (!takesPackets(channel)) this.#socket.destroy();
  }

  #limit(): void {
    if (this.#settings.unread.isTooMuch(this.#channels)) this.#socket.destroy();
    if (this.#socket.writableLength <= UNSENT_BYTES_MAX || this.#socket.isPaused()) return;
    // A client that asks on and on and takes no answer.
    this.#socket.pause();
    this.#socket.once("drain", () => this.#socket.resume());
  }

  #unreadBytes(): number {
    let bytes = 0;
    for (const { readableLength } of this.#channels) bytes += readableLength;
    return bytes;
  }
}

/** True also while the client only asks whether a key would do. */
function isSignedBy({ key, signature, blob, hashAlgo }: PublicKeyAuthContext): boolean {
  if (key.algo === "ssh-rsa" && !RSA_HASHES.has(hashAlgo)) return false;
  const parsed = ssh2.utils.parseKey(key.data);
  if (parsed instanceof Error) return false;
  if (signature === undefined || blob === undefined) return true;
  return parsed.verify(blob, signature, hashAlgo) === true;
}

import { errnoError } from "../calls/errors.ts";
import type { Connection } from "../calls/method.ts";

/** The open files of each connection, which are closed when it ends (protocol.md 4.3). */
const tables = new WeakMap<Connection, Map<number, Deno.FsFile>>();
let lastId = 0;

/** Makes a file the connection's own and returns its id. Ids are not used again, so a late call cannot reach another file. */
export function addFile(connection: Connection, file: Deno.FsFile): number {
  let table = tables.get(connection);
  if (table === undefined) {
    const files = new Map<number, Deno.FsFile>();
    table = files;
    tables.set(connection, files);
    connection.onClose(() => {
      for (const file of files.values()) file.close();
      files.clear();
    });
  }
  // The connection may have ended while the file was being opened; nothing would close it then.
  if (connection.signal.aborted) {
    file.close();
    throw errnoError("EBADF", "open: the connection has ended");
  }
  table.set(++lastId, file);
  return lastId;
}

/** The file under this id. Throws `BadResource` for one that is closed or belongs to another connection. */
export function getFile(connection: Connection, id: number): Deno.FsFile {
  const file = tables.get(connection)?.get(id);
  if (file === undefined)
    throw errnoError("EBADF", `use file handle ${id}: it is closed or was not opened on this connection`);
  return file;
}

/** Closes a file. Throws `BadResource` as `getFile` does. */
export function closeFile(connection: Connection, id: number): void {
  const file = getFile(connection, id);
  tables.get(connection)?.delete(id);
  file.close();
}

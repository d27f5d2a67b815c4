import { after } from "node:test";
import { PostgresServer } from "@caisson/database/testing";

let databases: PostgresServer | null = null;

/** Lets every server that this file's tests start keep its rows in PostgreSQL, each in a database of its own, instead of in SQLite. */
export async function usePostgres(): Promise<PostgresServer> {
  const server = await PostgresServer.start();
  databases = server;
  after(() => server[Symbol.asyncDispose]());
  return server;
}

export function isOnPostgres(): boolean {
  return databases !== null;
}

/** The line of settings for a new server's database; empty for SQLite. */
export async function databaseSetting(): Promise<string> {
  return databases === null ? "" : `database = ${JSON.stringify(await databases.createDatabase())}\n`;
}

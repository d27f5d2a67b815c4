import { after } from "node:test";
import { PostgresServer } from "@caisson/database/testing";

let databases: PostgresServer | null = null;

/** What the servers that tests start are: one process with SQLite, one with PostgreSQL, or two servers without a node of their own and three nodes with PostgreSQL. */
export type Deployment = "sqlite" | "postgres" | "cluster";

/** As CAISSON_TEST_DEPLOYMENT says. */
export function testDeployment(): Deployment {
  const name = process.env.CAISSON_TEST_DEPLOYMENT ?? "sqlite";
  if (name === "sqlite" || name === "postgres" || name === "cluster") return name;
  throw new Error(`CAISSON_TEST_DEPLOYMENT is ${JSON.stringify(name)}: use "sqlite", "postgres" or "cluster"`);
}

/** Lets every server that this file's tests start keep its rows in PostgreSQL, each in a database of its own, instead of in SQLite. */
export async function usePostgres(): Promise<PostgresServer> {
  if (databases !== null) return databases;
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

if (testDeployment() !== "sqlite") await usePostgres();

import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach } from "node:test";
import { TestAgent } from "../testing/test-agent.ts";
import { RpcClient } from "./rpc-client.ts";

export interface AgentFixture {
  readonly agent: TestAgent;
  readonly client: RpcClient;
  /** A directory for this test, below the agent's default directory. */
  readonly directory: string;
  /** The same, relative to the default directory. */
  readonly name: string;
}

/** One agent and one connection for all tests of a file, and a directory for each test. `prepare` runs once before them. */
export function useAgent(prepare: (agent: TestAgent) => Promise<void> = async () => {}): AgentFixture {
  const fixture: { agent?: TestAgent; client?: RpcClient; directory?: string } = {};
  before(async () => {
    fixture.agent = await TestAgent.start();
    fixture.client = await RpcClient.connect(fixture.agent.socketPath);
    await prepare(fixture.agent);
  });
  after(async () => {
    await fixture.client?.close();
    await fixture.agent?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    fixture.directory = await mkdtemp(join(started(fixture.agent).home, "test-"));
  });
  return {
    get agent() {
      return started(fixture.agent);
    },
    get client() {
      return started(fixture.client);
    },
    get directory() {
      return started(fixture.directory);
    },
    get name() {
      return this.directory.slice(this.agent.home.length + 1);
    },
  };
}

function started<T>(part: T | undefined): T {
  if (part === undefined) throw new Error("The agent of the fixture is there only while tests run");
  return part;
}

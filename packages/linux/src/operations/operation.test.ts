import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { KeyedLock } from "../concurrency/keyed-lock.ts";
import { completeSteps, type Operation, runOperation, Step } from "./operation.ts";
import { PersistentWork } from "./persistent-work.ts";

const SILENT = { info() {}, error() {} };

/** Parts that write down when they run, and fail as often as they are told to. */
class Script {
  readonly log: string[] = [];
  readonly #failures = new Map<string, number>();

  failing(name: string, times = 1): this {
    this.#failures.set(name, times);
    return this;
  }

  part(name: string): () => Promise<void> {
    return async () => {
      this.log.push(name);
      const left = this.#failures.get(name) ?? 0;
      this.#failures.set(name, left - 1);
      if (left > 0) throw new Error(`${name} failed`);
    };
  }

  step(name: string): Step {
    return new Step(name, { run: this.part(name), undo: this.part(`undo ${name}`) });
  }

  operation(values: Partial<Operation<string>> = {}): Operation<string> {
    const [intent, commit, withdraw] = [this.part("intent"), this.part("commit"), this.part("withdraw")];
    return {
      name: "test",
      objectId: "id",
      intent: {
        async run() {
          await intent();
          return null;
        },
        undo: this.part("forget"),
      },
      steps: [this.step("one"), this.step("two")],
      commit: {
        async run() {
          await commit();
          return "result";
        },
        async withdraw() {
          await withdraw();
          return null;
        },
      },
      ...values,
    };
  }
}

const app = () => ({ persistent: new PersistentWork(SILENT), locks: new KeyedLock() });

suite("operations", () => {
  test("intent, steps and commit run in order, and the result is the commit's", async () => {
    const script = new Script();
    assert.equal(await runOperation(app(), script.operation()), "result");
    assert.deepEqual(script.log, ["intent", "one", "two", "commit"]);
  });

  test("a step that fails is undone with those before it, after the commit is withdrawn and before the intent is forgotten", async () => {
    const script = new Script().failing("two");
    await assert.rejects(runOperation(app(), script.operation()), /two failed/);
    assert.deepEqual(script.log, ["intent", "one", "two", "withdraw", "undo two", "undo one", "forget"]);
  });

  test("an undo that fails is tried again, and those after it wait for it", async () => {
    const script = new Script().failing("commit").failing("undo two", 2);
    await assert.rejects(runOperation(app(), script.operation()), /commit failed/);
    assert.deepEqual(script.log.slice(4), ["withdraw", "undo two", "undo two", "undo two", "undo one", "forget"]);
  });

  test("nothing is undone while it is not known whether the commit stands", async () => {
    const script = new Script().failing("commit").failing("withdraw", 2);
    await assert.rejects(runOperation(app(), script.operation()), /commit failed/);
    assert.deepEqual(script.log.slice(4), ["withdraw", "withdraw", "withdraw", "undo two", "undo one", "forget"]);
  });

  test("a commit that failed and stands all the same is a success, and nothing is undone", async () => {
    const script = new Script().failing("commit");
    const operation = script.operation();
    const standing = { ...operation, commit: { ...operation.commit, withdraw: async () => "result" } };
    assert.equal(await runOperation(app(), standing), "result");
    assert.deepEqual(script.log, ["intent", "one", "two", "commit"]);
  });

  test("a refused intent and one that finds its work done leave everything else alone", async () => {
    const script = new Script();
    const refuse = async () => {
      throw new CaissonError("SLUG_ALREADY_IN_USE", "taken");
    };
    const forget = script.part("forget");
    await assert.rejects(runOperation(app(), script.operation({ intent: { run: refuse, undo: forget } })), /taken/);
    const done = { run: async () => "earlier", undo: forget };
    assert.equal(await runOperation(app(), script.operation({ intent: done })), "earlier");
    assert.deepEqual(script.log, []);
  });

  test("an abort ends it between two steps", async () => {
    const script = new Script();
    const controller = new AbortController();
    const steps = [
      script.step("one"),
      new Step("leave", { run: async () => controller.abort(new Error("left")) }),
      script.step("two"),
    ];
    await assert.rejects(runOperation(app(), script.operation({ steps, signal: controller.signal })), /left/);
    assert.deepEqual(script.log, ["intent", "one", "withdraw", "undo one", "forget"]);
  });

  test("a lock is held again while it is undone, and not in between", async () => {
    const context = app();
    const script = new Script().failing("two").failing("undo two");
    const running = runOperation(context, script.operation({ lock: "id" }));
    const others = context.locks.run("id", async () => script.log.push("another"));
    await assert.rejects(running, /two failed/);
    await others;
    assert.ok(script.log.indexOf("another") > script.log.indexOf("two"));
    assert.ok(script.log.indexOf("another") < script.log.lastIndexOf("forget"));
  });
});

suite("steps without a way back", () => {
  test("each is tried until it succeeds, once more at the server's end, and none before the one in front of it", async () => {
    const context = app();
    const script = new Script().failing("one", 2);
    const steps = { one: script.part("one"), two: script.part("two") };
    assert.equal(await completeSteps(context, "test", "id", steps), true);
    assert.deepEqual(script.log, ["one", "one", "one", "two"]);

    const hopeless = new Script().failing("one", Number.POSITIVE_INFINITY);
    const ending = completeSteps(context, "test", "id", { one: hopeless.part("one"), two: hopeless.part("two") });
    await context.persistent.close();
    assert.equal(await ending, false);
    assert.ok(!hopeless.log.includes("two"));
  });
});

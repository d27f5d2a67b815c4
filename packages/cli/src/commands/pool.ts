import { formatSize } from "@caisson/model";
import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";

/** `caisson pool ...`. */
export function addPoolCommands(program: Command): void {
  const pool = program.command("pool").description("The server's storage pool; `caisson df` shows what it holds");
  const command = pool
    .command("grow")
    .description("Apply sizes of the pool that were raised in the server's settings, without a restart")
    .action(
      run(async (context) => {
        const { client } = await context.connect();
        const pools = await client.pools.grow();
        const text = pools.map(({ region, total }) => `The pool of ${region} has ${formatSize(total)}`).join(", ");
        context.output.confirm(text, { pools });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson pool grow", "After raising `size` under [pool] or [[pool.disks]] in caisson.toml"]]);
}

// For Node.js 22 and earlier, which do not know `await using`.
import { Sandbox } from "@deno/sandbox";

const sandbox = await Sandbox.create();
try {
  console.log((await sandbox.sh`echo Works`.text()).trim());
} finally {
  await sandbox.close();
}

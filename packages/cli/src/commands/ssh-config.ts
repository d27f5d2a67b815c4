import type { SandboxMetadata, SshEndpoint } from "@caisson/sdk";
import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { type HostOptions, hostText, SshFiles } from "../ssh/ssh-files.ts";

/** `ssh ID@caisson` reaches every sandbox, also those to come. */
const ANY = "caisson";
/** The label by which a sandbox is called, where it has one. */
const NAME_LABEL = "name";
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** `caisson ssh-config`. */
export function addSshConfigCommand(program: Command): void {
  const command = program
    .command("ssh-config")
    .description("Write a file for ssh, so that `ssh SANDBOX-ID` works, and print the line that includes it")
    .action(
      run(async (context) => {
        const { client } = await context.connect();
        const endpoint = await client.ssh.endpoint();
        const running = (await client.sandboxes.list()).filter(({ status }) => status === "running");
        const files = new SshFiles(context.configPath);
        const known = await files.writeKnownHost(endpoint);
        const path = await files.write("config", configText(endpoint, known, running));
        const line = `Include "${path}"`;
        context.output.value(line, { include: path, ...endpoint, sandboxes: running.map(({ id }) => id) });
        context.output.note("Put that line at the top of ~/.ssh/config. Run this again for sandboxes that are new;");
        context.output.note(`ssh SANDBOX-ID@${ANY} works for those, too. The server's key: ${endpoint.fingerprint}`);
        if ((await client.sshKeys.list()).length === 0)
          context.output.note("No key may log in yet. Add yours: caisson ssh-keys add ~/.ssh/id_ed25519.pub");
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson ssh-config", "Then: ssh sbx_ord_…, scp, sftp, rsync, VS Code Remote-SSH"]]);
}

function configText({ fingerprint }: SshEndpoint, known: HostOptions, sandboxes: readonly SandboxMetadata[]): string {
  const names = sandboxes.map(({ labels }) => labels[NAME_LABEL] ?? "");
  const hosts = sandboxes.map(({ id }, index) => {
    const name = names[index] ?? "";
    const isUsable = NAME.test(name) && name !== ANY && names.filter((other) => other === name).length === 1;
    return hostText(isUsable ? [id, name] : [id], { ...known, User: id });
  });
  return [`# Written by \`caisson ssh-config\`. Server key: ${fingerprint}`, hostText([ANY], known), ...hosts].join(
    "\n",
  );
}

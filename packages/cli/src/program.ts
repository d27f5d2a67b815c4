import { Command, Help } from "commander";
import manifest from "../package.json" with { type: "json" };
import { asCalled } from "./called-as.ts";
import { usageError } from "./cli-error.ts";
import { addBackupCommands } from "./commands/backup.ts";
import { addCompletionCommands } from "./commands/completion.ts";
import { addCopyCommand } from "./commands/copy.ts";
import { addCreateCommand } from "./commands/create.ts";
import { addDatabaseCommands } from "./commands/database.ts";
import { addDfCommand } from "./commands/df.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addEnvCommand } from "./commands/env.ts";
import { addExecCommand } from "./commands/exec.ts";
import { addExtendCommand } from "./commands/extend.ts";
import { addKeysCommands } from "./commands/keys.ts";
import { addKillCommand } from "./commands/kill.ts";
import { addLinkCommand } from "./commands/link.ts";
import { addListCommand } from "./commands/list.ts";
import { addNodesCommands } from "./commands/nodes.ts";
import { addNotOfferedCommands } from "./commands/not-offered.ts";
import { addPoolCommands } from "./commands/pool.ts";
import { addExposeCommand, addPreviewsCommands } from "./commands/previews.ts";
import { addPurgeCommand } from "./commands/purge.ts";
import { addQuickstartCommand } from "./commands/quickstart.ts";
import { addRestoreCommands } from "./commands/restore.ts";
import { addShellCommand } from "./commands/shell.ts";
import { addStoreCommands } from "./commands/snapshot-store.ts";
import { addSnapshotsCommands } from "./commands/snapshots.ts";
import { addSshCommand, addSshRevokeCommand } from "./commands/ssh.ts";
import { addSshConfigCommand } from "./commands/ssh-config.ts";
import { addSshKeysCommands } from "./commands/ssh-keys.ts";
import { addSwitchCommand } from "./commands/switch.ts";
import { addOrgsCommands, addTokensCommands } from "./commands/tokens.ts";
import { addUpCommand } from "./commands/up.ts";
import { addVerifyCommand } from "./commands/verify.ts";
import { addVolumesCommands } from "./commands/volumes.ts";
import { addCommonOptions, addExamples } from "./define.ts";

/** Builds the tree of commands. Nothing is read or connected to until one of them runs. */
export function buildProgram(): Command {
  const program = new Command("caisson")
    .description("Persistent sandboxes on your own machine: volumes, snapshots and isolated Linux environments.")
    .version(manifest.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    // Errors are shown by main, in the form that was asked for.
    .configureOutput({ outputError: () => undefined })
    .exitOverride()
    // What stands behind the words of a command to run belongs to that command.
    .enablePositionalOptions()
    .configureHelp({
      subcommandTerm: (command) => [command.name(), ...command.aliases().slice(0, 1)].join(", "),
      // Help is broken into lines on narrow terminals, too.
      minWidthToWrap: 20,
      commandUsage: (command) => asCalled(new Help().commandUsage(command)),
    });
  addCommonOptions(program);

  program.commandsGroup("Sandboxes:");
  addCreateCommand(program);
  addListCommand(program);
  addExecCommand(program);
  addShellCommand(program);
  addSshCommand(program);
  addSshConfigCommand(program);
  addSshRevokeCommand(program);
  addCopyCommand(program);
  addExtendCommand(program);
  addExposeCommand(program);
  addPreviewsCommands(program);
  addKillCommand(program);
  program.commandsGroup("Storage:");
  addVolumesCommands(program);
  addSnapshotsCommands(program);
  addPurgeCommand(program);
  addDfCommand(program);
  addPoolCommands(program);
  addVerifyCommand(program);
  program.commandsGroup("Server:");
  addQuickstartCommand(program);
  addUpCommand(program);
  addEnvCommand(program);
  addDoctorCommand(program);
  addDatabaseCommands(program);
  addNodesCommands(program);
  addKeysCommands(program);
  addBackupCommands(program);
  addRestoreCommands(program);
  addStoreCommands(program);
  addLinkCommand(program);
  program.commandsGroup("Access:");
  addSwitchCommand(program);
  addTokensCommands(program);
  addSshKeysCommands(program);
  addOrgsCommands(program);
  program.commandsGroup("Other:");
  addCompletionCommands(program);
  addNotOfferedCommands(program);
  program.addHelpCommand(
    new Command("help").argument("[command]").description("Show help for a command").helpGroup("Other:"),
  );
  for (const group of groupsOf(program)) group.helpCommand("help [command]", "Show help for a command");
  program.hook("preAction", (_program, action) => {
    refuseForeignOptions(program, action);
    refuseEmptyPlaces(action);
  });
  return addExamples(program, [
    ["caisson quickstart", "See a file outlive the sandbox that wrote it"],
    ["caisson up", "Run a server, then use it from another shell"],
    ['eval "$(caisson env)" && caisson create --timeout 20m', "A sandbox on it"],
  ]);
}

/** The commands below this one that have commands of their own. */
function groupsOf({ commands }: Command): readonly Command[] {
  return commands.filter((command) => command.commands.length > 0).flatMap((group) => [group, ...groupsOf(group)]);
}

/** An option before the command's name must be one that this command has: nothing is accepted and then ignored. */
function refuseForeignOptions(program: Command, action: Command): void {
  const known = new Set(action.options.map((option) => option.attributeName()));
  const foreign = program.options.find((option) => {
    const name = option.attributeName();
    return program.getOptionValue(name) !== undefined && !known.has(name);
  });
  if (foreign !== undefined) throw usageError(`Option '${foreign.long}' has no meaning for 'caisson ${action.name()}'`);
}

/** What an option's value or an argument is called in the help where it says where something is. */
const PLACE = /^(path|paths|file|directory|host:port)$/;

/** An empty text, as an unset variable of a script gives it, would mean the current directory. */
function refuseEmptyPlaces(action: Command): void {
  const options = levelsOf(action).flatMap((level) =>
    level.options
      .filter(({ flags }) => PLACE.test(/[<[]([^>\].]+)/.exec(flags)?.[1] ?? ""))
      .map((option) => ({ name: `Option '${option.long}'`, value: level.getOptionValue(option.attributeName()) })),
  );
  const places = action.registeredArguments
    .map((argument, index) => ({ argument, value: action.processedArgs[index] }))
    .filter(({ argument }) => PLACE.test(argument.name()))
    .map(({ argument, value }) => ({ name: `Argument '${argument.name()}'`, value }));
  const empty = [...options, ...places].find(
    ({ value }) => value === "" || (Array.isArray(value) && value.includes("")),
  );
  if (empty !== undefined)
    throw usageError(`${empty.name} is empty`, "Say where it is, or check the variable that you gave.");
}

function levelsOf(command: Command): readonly Command[] {
  return command.parent === null ? [command] : [...levelsOf(command.parent), command];
}

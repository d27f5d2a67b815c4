import type { Command } from "commander";
import { CliError, usageError } from "../cli-error.ts";
import { type Context, loadSdk } from "../context.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import type { Column } from "../output/table.ts";
import { readCredentials } from "../server-process/credentials.ts";
import { type ConfigFile, type Profile, readConfigFile, writeConfigFile } from "../settings/config-file.ts";
import { closest } from "../suggest.ts";
import { notOffered } from "./not-offered.ts";

interface SwitchFlags {
  readonly data?: string;
  readonly forget?: boolean;
  readonly app?: string;
}

interface Row {
  readonly name: string;
  readonly endpoint: string;
  readonly org: string | null;
  readonly isCurrent: boolean;
}

const COLUMNS: readonly Column<Row>[] = [
  { title: "", value: ({ isCurrent }) => (isCurrent ? "*" : " ") },
  { title: "NAME", value: ({ name }) => name },
  { title: "ENDPOINT", value: ({ endpoint }) => endpoint },
  { title: "ORGANIZATION", value: ({ org }) => org ?? "-", dropRank: 1 },
];

/** `caisson switch`. */
export function addSwitchCommand(program: Command): void {
  const command = program
    .command("switch")
    .description("Choose the server and organization that commands use; without a name, list those that are saved")
    .argument("[name]", "a saved server, or the name to save one under")
    .option("--data <directory>", "save the server on this machine that uses this data directory")
    .option("--forget", "remove the named server from the file")
    .option("--app <name>", "not offered: Caisson has no apps")
    .action(run(switchProfile));
  addCommonOptions(command);
  addExamples(command, [
    ["caisson switch", "List the saved servers"],
    ["caisson switch --data /var/lib/caisson local", "Save the server on this machine as `local`, and use it"],
    [
      "CAISSON_TOKEN=ddo_… caisson switch --endpoint https://box:8484 --org acme box",
      "Save another, without the token in the history",
    ],
    ["caisson switch --org acme", "Use the saved server of an organization"],
  ]);
}

async function switchProfile(context: Context, name: string | undefined, flags: SwitchFlags): Promise<void> {
  if (flags.app !== undefined)
    throw notOffered("caisson switch --app", "To choose an organization: caisson switch --org NAME");
  const config = await readConfigFile(context.configPath, () => undefined);
  if (flags.forget) return await forget(context, config, name);
  const isNew = flags.data !== undefined || context.flags.endpoint !== undefined;
  if (isNew) return await save(context, config, name, await newProfile(context, flags));
  if (name !== undefined) return await use(context, config, requireProfile(config, name));
  if (context.flags.org !== undefined) return await use(context, config, profileOf(config, context.flags.org));
  list(context, config);
}

/** Where to find the server and what to show it, both from the options or both from its data directory. */
async function newProfile(context: Context, { data }: SwitchFlags): Promise<Profile> {
  if (data !== undefined) {
    const { endpoint, token, organization } = await readCredentials(data);
    return { endpoint, token, org: organization };
  }
  const { options, endpoint, org } = await context.settings();
  if (options.token === undefined) {
    throw new CliError(
      "NOT_AUTHENTICATED",
      EXIT.authentication,
      `No token for ${endpoint} is given`,
      "Set CAISSON_TOKEN for this command, or add --token.",
    );
  }
  return { endpoint, token: options.token, ...(org === undefined ? {} : { org }) };
}

/** A server is tried before it is saved, so that a mistake shows now and not at the next command. */
async function save(context: Context, config: ConfigFile, given: string | undefined, profile: Profile): Promise<void> {
  const { Client } = await loadSdk();
  const { endpoint, token, org } = profile;
  await new Client({ apiEndpoint: endpoint, token, ...(org === undefined ? {} : { org }) }).tokens.list();
  const name = given ?? org ?? new URL(endpoint).hostname;
  const next = { current: name, profiles: { ...config.profiles, [name]: profile } };
  await writeConfigFile(context.configPath, next);
  confirmUse(context, name, profile);
}

async function use(context: Context, config: ConfigFile, [name, profile]: readonly [string, Profile]): Promise<void> {
  await writeConfigFile(context.configPath, { ...config, current: name });
  confirmUse(context, name, profile);
}

async function forget(context: Context, config: ConfigFile, name: string | undefined): Promise<void> {
  if (name === undefined) throw usageError("Name the server to forget", "caisson switch lists them.");
  requireProfile(config, name);
  const { [name]: _forgotten, ...profiles } = config.profiles;
  await writeConfigFile(context.configPath, { current: config.current === name ? null : config.current, profiles });
  context.output.confirm(`Forgot ${name}`, { name });
}

function list(context: Context, config: ConfigFile): void {
  const items = Object.entries(config.profiles).map(([name, { endpoint, org }]) => ({
    name,
    endpoint,
    org: org ?? null,
    isCurrent: name === config.current,
  }));
  const empty = "No saved servers. Save the one on this machine: caisson switch --data /var/lib/caisson local";
  context.output.list({ items, columns: COLUMNS, id: ({ name }) => name, org: undefined, empty });
}

function requireProfile(config: ConfigFile, name: string): readonly [string, Profile] {
  const profile = config.profiles[name];
  if (profile !== undefined) return [name, profile];
  const meant = closest(name, Object.keys(config.profiles));
  const hint = meant === undefined ? "caisson switch lists those that are saved." : `Did you mean ${meant}?`;
  throw new CliError("PROFILE_NOT_FOUND", EXIT.notFound, `No server is saved as ${JSON.stringify(name)}`, hint);
}

function profileOf(config: ConfigFile, org: string): readonly [string, Profile] {
  const isOfOrg = ([, profile]: readonly [string, Profile]): boolean => profile.org === org;
  const current = config.current === null ? undefined : config.profiles[config.current];
  const candidates = Object.entries(config.profiles).filter(isOfOrg);
  const sameServer = candidates.find(([, profile]) => profile.endpoint === current?.endpoint);
  const found = sameServer ?? candidates[0];
  if (found !== undefined) return found;
  const hint = `Make a token for it (caisson tokens create NAME --for ${org}), then save it: caisson switch --endpoint URL --org ${org} NAME`;
  throw new CliError(
    "PROFILE_NOT_FOUND",
    EXIT.notFound,
    `No saved server has the organization ${JSON.stringify(org)}`,
    hint,
  );
}

function confirmUse({ output }: Context, name: string, { endpoint, org }: Profile): void {
  const organization = org === undefined ? "" : `, organization ${org}`;
  output.confirm(`Using ${name}: ${endpoint}${organization}`, { name, endpoint, org: org ?? null });
}

import type { Command } from "commander";
import type { Context } from "../context.ts";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { quote } from "../quote.ts";
import { DEFAULT_DATA_DIRECTORY, readCredentials, requireHealthy } from "../server-process/credentials.ts";
import { type PreviewTrust, readPreviewTrust } from "../server-process/preview-trust.ts";

/** `caisson env`. */
export function addEnvCommand(program: Command): void {
  const command = program
    .command("env")
    .description("Print export lines with endpoint and token of a server on this machine")
    .option("--data <directory>", "the server's data directory", DEFAULT_DATA_DIRECTORY)
    .action(
      run(async (context, { data }: { readonly data: string }) => {
        const credentials = await readCredentials(data);
        const { endpoint, token } = credentials;
        await requireHealthy(endpoint);
        const trust = await readPreviewTrust(data);
        // The names of the official clients, then Caisson's own: those win, so a stale one must not be left in the shell.
        const variables = {
          DENO_DEPLOY_TOKEN: token,
          DENO_DEPLOY_ENDPOINT: endpoint,
          DENO_SANDBOX_ENDPOINT: endpoint,
          CAISSON_TOKEN: token,
          CAISSON_ENDPOINT: endpoint,
          ...trustVariables(trust, context.environment),
        };
        const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}`);
        context.output.value(lines.join("\n"), { ...credentials, previews: trust });
        if (trust !== null) explainTrust(context, trust);
      }),
    );
  addOutputOptions(command);
  addExamples(command, [
    ['eval "$(caisson env)"', "Use the server from this shell"],
    ["caisson env --data ./data", "One with another data directory"],
  ]);
}

/**
 * By which Node, Deno, and what is built on OpenSSL trust the previews of a server with an authority of its own. Where a variable of Node or Deno is set,
 * for a company's proxy as a rule, the system's authorities are added. curl and Python's requests have variables that win over OpenSSL's.
 */
function trustVariables(trust: PreviewTrust | null, environment: NodeJS.ProcessEnv): Readonly<Record<string, string>> {
  if (trust === null) return {};
  const { authority, bundle } = trust;
  const added = (name: string) => (environment[name] && environment[name] !== authority ? bundle : authority);
  return {
    NODE_EXTRA_CA_CERTS: added("NODE_EXTRA_CA_CERTS"),
    DENO_CERT: added("DENO_CERT"),
    SSL_CERT_FILE: bundle,
    CURL_CA_BUNDLE: bundle,
    REQUESTS_CA_BUNDLE: bundle,
  };
}

function explainTrust({ output }: Context, { authority, isLocalhostFound }: PreviewTrust): void {
  output.note(
    `Previews: a browser trusts them when you import ${authority} among its authorities; it is good for previews only.`,
  );
  if (isLocalhostFound) return;
  output.warn(
    "Programs on this machine do not find names below localhost, and so no previews (browsers and curl do). Install libnss-myhostname, " +
      "or set expose.domain in caisson.toml, for example to 127.0.0.1.sslip.io",
  );
}

import { hasCrashed, runTool } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

/** Changes the host's packet filter in one transaction: all of the commands, in the language of nft(8), or none. */
export async function changePacketFilter(commands: string): Promise<void> {
  try {
    await runTool("nft", ["-f", "-"], { input: commands });
  } catch (error) {
    // nft reads every rule on the host first, and its parser of what a newer version wrote there is known to crash.
    if (!hasCrashed(error)) throw error;
    throw new CaissonError(
      "INTERNAL_ERROR",
      `Cannot change the packet filter: nft was killed by ${error.signal}. A newer nft has probably made rules on this host that this one ` +
        "cannot read (then nft list ruleset crashes too). Install the newer nftables, or remove those rules with the program that made them",
      { cause: error },
    );
  }
}

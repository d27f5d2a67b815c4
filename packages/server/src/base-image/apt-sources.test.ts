import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { formatSources, mirrorOptions, sourcesForRelease } from "./apt-sources.ts";

const TARGETS = `
http://mirror.example/debian bookworm main
http://mirror.example/debian bookworm main
http://mirror.example/debian bookworm-updates main
http://mirror.example/debian bookworm-backports main
http://mirror.example/debian bookworm contrib
https://security.example/debian-security bookworm-security main
https://vendor.example/node nodistro main
file:/srv/mirror bookworm main
`;

suite("apt sources", () => {
  test("the host's mirrors are named with the other release, without duplicates and without other archives", () => {
    assert.deepEqual(
      sourcesForRelease(TARGETS, "bookworm", "trixie").map(({ uri, suite }) => `${uri} ${suite}`),
      [
        "http://mirror.example/debian trixie",
        "http://mirror.example/debian trixie-updates",
        "https://security.example/debian-security trixie-security",
      ],
    );
  });

  test("a host that names its release by status is understood", () => {
    const sources = sourcesForRelease("http://mirror.example/debian stable main\n", "trixie", "trixie");
    assert.equal(sources[0]?.suite, "trixie");
  });

  test("no mirror is an error that says what to do", () => {
    assert.throws(() => sourcesForRelease("https://vendor.example/node nodistro main", "noble", "trixie"), /Add one/);
  });

  test("a mirror with a password in its address is refused, and the password is not in the message", () => {
    assert.throws(
      () => sourcesForRelease("https://me:secret@mirror.example/debian bookworm main", "bookworm", "trixie"),
      (error: Error) => /auth\.conf\.d/.test(error.message) && !error.message.includes("secret"),
    );
  });

  test("options of the mirror and the way to it are taken over, those of the host are not", () => {
    const dump = [
      'Acquire::http::Proxy "http://proxy.example:3128";',
      'Acquire::https::Proxy "http://127.0.0.1:3128";',
      'Acquire::Check-Valid-Until "false";',
      'DPkg::Post-Invoke:: "rm -f x";',
      'Acquire::Check-Date "";',
    ].join("\n");
    assert.deepEqual(mirrorOptions(dump), [
      'Acquire::http::Proxy "http://proxy.example:3128";',
      'Acquire::Check-Valid-Until "false";',
    ]);
  });

  test("sources are written in apt's own form", () => {
    const text = formatSources([{ uri: "http://mirror.example/debian", suite: "trixie", components: ["main"] }]);
    assert.match(
      text,
      /^Types: deb\nURIs: http:\/\/mirror\.example\/debian\nSuites: trixie\nComponents: main\nSigned-By: /,
    );
  });
});

#!/bin/sh
# Previews in Debian's Chromium, driven by playwright-core; neither is part of `npm test`. Installs what is missing. The last test installs
# code-server in a sandbox, which compiles for minutes; with arguments only the tests whose names match run, for example:
#   tests/browser/run.sh --test-name-pattern Vite
set -eu
cd "$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")"
scripts/setup.sh npm
scripts/setup.sh debian
PATH="$PWD/node_modules/.bin:$PATH"
export PATH
if ! command -v chromium >/dev/null || ! command -v certutil >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium libnss3-tools
fi
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
npm install --silent --prefix "$tools" playwright-core@1.65.1
node packages/agent/build.ts >/dev/null
CAISSON_TEST_PLAYWRIGHT="$tools/node_modules/playwright-core" scripts/isolate.sh node --test "$@" tests/browser/browser.ts

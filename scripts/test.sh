#!/bin/sh
# The whole suite: types, lint, generated files, tests in namespaces of their own, the Python SDK, and a last look for leftovers.
#   test.sh            everything
#   test.sh FILE ...   only these test files
set -eu
cd "$(dirname "$(dirname "$(readlink -f "$0")")")"
scripts/setup.sh npm
scripts/setup.sh debian
scripts/setup.sh tests
PATH="$PWD/node_modules/.bin:$PATH"
export PATH

# Temporary files go to a directory of this run, so that whatever is left of a test is found. Sandboxes' ids must be able to pass it.
TMPDIR=$(mktemp -d /tmp/cs.XXXXXX)
chmod 711 "$TMPDIR"
export TMPDIR
# Tools on Node would keep compiled code there.
export NODE_DISABLE_COMPILE_CACHE=1
trap 'rm -rf "$TMPDIR"' EXIT

# Privileged tests share one machine's loop devices and CPUs, so few files run side by side.
run_tests() {
  scripts/isolate.sh node --test --test-concurrency=2 --test-timeout=420000 "$@"
}

node packages/agent/build.ts
if [ $# -gt 0 ]; then
  run_tests "$@"
  node scripts/leftovers.ts
  exit
fi

echo "== types, lint, format, generated files"
tsc -p .
biome check .
node packages/server/src/openapi.ts --check

echo "== tests"
run_tests 'packages/*/src/**/*.test.ts' 'packages/*/tests/**/*.test.ts' 'tests/**/*.test.ts'

echo "== Python SDK"
python/check

echo "== leftovers"
node scripts/leftovers.ts

#!/bin/sh
# The whole suite: types, lint, generated files, tests in namespaces of their own, the Python SDK, and a last look for leftovers. Every part
# runs, also after one that failed; the end says which failed, each failed test with the log of its server, and what was skipped and why.
#   test.sh            everything
#   test.sh FILE ...   only these test files
# With CI=true a skipped test is a failure, unless its reason is that the kernel lacks something.
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
# What this run says about itself is no leftover.
report=$(mktemp -d /tmp/cs-report.XXXXXX)
mkdir "$report/logs"
export CAISSON_TEST_LOGS="$report/logs"
trap 'rm -rf "$TMPDIR" "$report"' EXIT
# Programs that keep something in the user's directories keep it there instead, and it goes with this run.
export NODE_COMPILE_CACHE="$report/compile" DENO_DIR="$report/deno" DENO_NO_UPDATE_CHECK=1
tools_home="XDG_CACHE_HOME=$report/cache XDG_CONFIG_HOME=$report/config XDG_DATA_HOME=$report/data"

# On a machine that does nothing else, whatever is new in the places where programs like to leave things comes from the tests.
list_places() { ls -dA "$HOME"/.[!.]* "$HOME"/.cache/* "$HOME"/.config/* "$HOME"/.local/* /run/* /tmp/* 2>/dev/null || true; }
look_for_leftovers() {
  node scripts/leftovers.ts || return 1
  [ "${CI:-}" = true ] || return 0
  list_places | grep -vxF -f "$report/places" | sed 's/^/left behind: /' >"$report/left"
  cat "$report/left" >&2
  [ ! -s "$report/left" ]
}
list_places >"$report/places"

part() {
  title=$1
  shift
  echo "== $title"
  if "$@"; then return; fi
  echo "$title" >>"$report/failed-parts"
}

# Where everything takes longer, as in an emulated machine, CAISSON_TEST_TIMEOUT_SCALE says how much longer.
test_timeout_ms=$((900000 * ${CAISSON_TEST_TIMEOUT_SCALE:-1}))

# Privileged tests share one machine's loop devices and CPUs, so few files run side by side.
run_tests() {
  # shellcheck disable=SC2086  # one word for each variable
  env $tools_home scripts/isolate.sh node --import ./scripts/short-differences.ts --import ./scripts/test-end.ts \
    --test --test-concurrency=2 --test-timeout="$test_timeout_ms" \
    --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=./scripts/test-report.ts --test-reporter-destination="$report/tests" "$@"
}

# shellcheck disable=SC2086
check() { env $tools_home "$@"; }

part "agent's bundle" node packages/agent/build.ts
if [ $# -gt 0 ]; then
  part "tests" run_tests "$@"
else
  part "types" tsc -p .
  part "agent's types" tsc -p packages/agent
  part "types of the agent's tests" tsc -p packages/agent/tsconfig.test.json
  part "lint and format" check biome check .
  part "generated files" node packages/server/src/openapi.ts --check
  part "tests" run_tests 'packages/*/src/**/*.test.ts' 'packages/*/tests/**/*.test.ts' 'tests/**/*.test.ts'
  part "Python SDK" env PIP_CACHE_DIR="$report/pip" python/check
fi
part "leftovers" look_for_leftovers

touch "$report/tests"
skipped=$(grep '^skipped: ' "$report/tests") || echo "No test was skipped."
if [ -n "$skipped" ]; then
  echo "== skipped tests"
  echo "$skipped"
  if [ "${CI:-}" = true ] && echo "$skipped" | grep -v ': the kernel ' | grep -q .; then
    echo "skipped tests that the kernel does not excuse" >>"$report/failed-parts"
  fi
fi
if grep -q '^failed: ' "$report/tests"; then
  echo "== failed tests, each with what its server logged"
  grep -v '^skipped: ' "$report/tests"
fi
[ -e "$report/failed-parts" ] || exit 0
echo "== failed: $(paste -sd, "$report/failed-parts")"
exit 1

#!/bin/sh
# End-to-end tests against other deployments than one process with SQLite, which `npm test` has: one process with PostgreSQL, and two servers and three nodes with PostgreSQL, the connections of clients spread over the servers.
#   test-deployments.sh            all files below
#   test-deployments.sh FILE ...   only these test files
# What is not below asks for a server of a certain kind, or for a host that is the server's own, in its own words.
set -eu
cd "$(dirname "$(dirname "$(readlink -f "$0")")")"
[ $# -gt 0 ] || set -- tests/workflow.test.ts tests/official-javascript.test.ts tests/processes.test.ts tests/environment.test.ts \
  tests/file-system.test.ts tests/volumes.test.ts tests/snapshots.test.ts tests/organizations.test.ts
status=0
for deployment in postgres cluster; do
  echo "== deployment: $deployment"
  CAISSON_TEST_DEPLOYMENT=$deployment scripts/test.sh "$@" || status=1
done
exit $status

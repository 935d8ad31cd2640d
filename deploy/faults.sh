#!/usr/bin/env bash
# The fault matrix: every test whose name begins with TestFault, those that are
# too long for CI included. Writes the outcome of each row to $1 (Markdown).
# Bounded: 45 minutes at most; stops by itself.
set -uo pipefail
out=${1:?usage: faults.sh FILE}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

go test -p 1 -count=1 -timeout 45m -tags faults -v -run '^TestFault' ./... 2>&1 | tee "$log" | grep -E '^ *--- (PASS|FAIL|SKIP): |^(FAIL|panic)'
status=${PIPESTATUS[0]}

{
  echo "# The last run of the fault matrix"
  echo
  echo "Made by \`make faults\` on $(date -u +%F) at commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(nproc) CPUs,"
  echo "$(redis-server --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/Redis \1/p'), $(psql --version 2>/dev/null | sed -n 's/.*PostgreSQL) \([0-9.]*\).*/PostgreSQL \1/p'), Envoy 1.40.0. What each row is and promises: [operations](operations.md#when-something-fails)."
  echo
  echo "| row | test | outcome | seconds |"
  echo "|---|---|---|---|"
  # a row is a test whose name has its id first: TestFaultRedis/F4_hung
  sed -nE 's#^ *--- (PASS|FAIL|SKIP): (TestFault[^/ ]*)/(F[0-9]+)([^/ ]*) \(([0-9.]+)s\)#\3\t\2\4\t\1\t\5#p' "$log" |
    sort -t$'\t' -k1.2,1n -k2 | awk -F '\t' '{ gsub("_", " ", $2); printf "| %s | %s | %s | %s |\n", $1, $2, tolower($3), $4 }'
} >"$out"

rows=$(grep -c '^| F' "$out")
bad=$(grep -cE '^ *--- (FAIL|SKIP): ' "$log")
echo "$rows rows, $bad failed or skipped: $out"
[ "$status" -eq 0 ] && [ "$bad" -eq 0 ] && [ "$rows" -gt 0 ]

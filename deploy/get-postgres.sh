#!/usr/bin/env bash
# Makes sure that the tests can start a PostgreSQL server of their own: initdb
# and postgres on PATH or below /usr/lib/postgresql. As root on Debian or
# Ubuntu it installs the distribution's package; otherwise it says what to do.
set -euo pipefail
if [ -n "${TOLLGATE_TEST_POSTGRES:-}" ]; then exit 0; fi
found() { command -v initdb >/dev/null 2>&1 || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
if found; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing the distribution's postgresql package" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # the tests start servers of their own: no cluster on the default port
  mkdir -p /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/no-main.conf
  apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
found && exit 0
echo "PostgreSQL is missing: install the server package of your distribution (Debian: apt-get install postgresql)," >&2
echo "or set TOLLGATE_TEST_POSTGRES to the DSN of a server on which the tests may create schemas." >&2
exit 1

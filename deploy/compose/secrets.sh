#!/bin/sh
# Makes what deploy/compose.yaml needs once: keys, passwords, certificates, and the folders of the containers. It
# replaces nothing that is there. The certificates are for trying things out: in production they come from your
# authority, with the same names.
set -eu
cd "$(dirname "$0")"
umask 077
domain=tollgate.local
mkdir -p secrets/ca run envoy state/keymanager state/xds state/authz

# once FILE: reads the new content from standard input.
once() { if [ -e "$1" ]; then cat >/dev/null; else cat >"$1"; fi; }

# The key of the tag in every credential (authz needs it too), of the digests in the database, of what lies in Redis.
printf 'tollgate-tag-keys 1\ncurrent 1 %s\n' "$(openssl rand -hex 32)" | once secrets/tag.key
printf 'tollgate-peppers 1\ncurrent 1 %s\n' "$(openssl rand -hex 32)" | once secrets/pepper.key
printf 'tollgate-redis-keys 1\ncurrent 1 %s\n' "$(openssl rand -hex 32)" | once secrets/redis.key

openssl rand -hex 24 | once secrets/postgres_password
printf 'postgres://tollgate:%s@postgres:5432/tollgate?sslmode=disable\n' "$(cat secrets/postgres_password)" | once secrets/dsn
openssl rand -hex 24 | once secrets/redis_password
printf 'user default off\nuser tollgate on >%s ~tg1:* resetchannels +getrange +set +ping\n' "$(cat secrets/redis_password)" | once secrets/redis_acl

# The authority of all processes.
if [ ! -e secrets/ca/ca.crt ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$domain" \
		-addext keyUsage=critical,keyCertSign -keyout secrets/ca/ca.key -out secrets/ca/ca.crt 2>/dev/null
fi

# certificate FOLDER NAMES: NAMES are subject alternative names. The URI says who a process is among the others.
certificate() {
	mkdir -p "secrets/$1"
	cp secrets/ca/ca.crt "secrets/$1/ca.crt"
	[ -e "secrets/$1/tls.crt" ] && return
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
		-keyout "secrets/$1/tls.key" -out "secrets/$1/tls.csr" 2>/dev/null
	printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n' "$2" >"secrets/$1/tls.ext"
	openssl x509 -req -in "secrets/$1/tls.csr" -CA secrets/ca/ca.crt -CAkey secrets/ca/ca.key -CAcreateserial \
		-days 365 -extfile "secrets/$1/tls.ext" -out "secrets/$1/tls.crt" 2>/dev/null
	rm "secrets/$1/tls.csr" "secrets/$1/tls.ext"
}
certificate keymanager "URI:spiffe://$domain/keymanager/keymanager-1,DNS:keymanager,DNS:localhost,IP:127.0.0.1"
certificate xds "URI:spiffe://$domain/xds/xds-1,DNS:xds"
certificate authz "URI:spiffe://$domain/authz/edge/authz-1,DNS:authz"
certificate envoy "URI:spiffe://$domain/gateway/edge/envoy-1"
certificate token "URI:spiffe://$domain/gateway/edge/token" # what Envoys show the key manager
certificate edge "DNS:localhost,IP:127.0.0.1" # what clients of the APIs see

printf 'TOLLGATE_USER=%s:%s\n' "$(id -u)" "$(id -g)" >../.env

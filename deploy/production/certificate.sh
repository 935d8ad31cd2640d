#!/bin/sh
# Makes a private key and a certificate of an authority of one's own, which it makes at the first call.
#
#   TRUST_DOMAIN=gateways.example.com certificate.sh PKI NAME [SUBJECT_ALTERNATIVE_NAMES]
#
# NAME says who holds it: keymanager/NAME, xds/NAME, authz/GROUP/NAME, gateway/GROUP/NODE, with the URI that the other
# processes check; any other, such as https/login, gets none. The names are as openssl takes them: DNS:a,DNS:b,IP:10.0.0.1.
# What it writes is PKI/NAME/tls.crt, tls.key and ca.crt. Called again, it renews: new key, new certificate. The key of the
# authority, PKI/ca.key, belongs on no machine that serves; with an authority that you have, let that make the same names.
set -eu
umask 077
pki=${1:?usage: certificate.sh PKI NAME [SUBJECT_ALTERNATIVE_NAMES]}
name=${2:?usage: certificate.sh PKI NAME [SUBJECT_ALTERNATIVE_NAMES]}
names=${3:-}
case $name in
keymanager/?* | xds/?* | authz/?*/?* | gateway/?*/?*)
	names="URI:spiffe://${TRUST_DOMAIN:?set it to tls.trust_domain}/$name${names:+,$names}"
	;;
esac
[ -n "$names" ] || { echo "certificate.sh: $name needs names, such as DNS:login.example.com" >&2; exit 2; }

curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
mkdir -p "$pki/$name"
if [ ! -e "$pki/ca.crt" ]; then
	# shellcheck disable=SC2086 # several words
	openssl req -x509 $curve -days 3650 -subj "/CN=${TRUST_DOMAIN:-Tollgate}" -addext keyUsage=critical,keyCertSign,cRLSign \
		-keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
fi
new=$(mktemp -d "$pki/$name/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
# shellcheck disable=SC2086
openssl req $curve -subj "/CN=$(basename "$name")" -keyout "$new/tls.key" -out "$new/tls.csr" 2>/dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n' "$names" >"$new/ext"
openssl x509 -req -in "$new/tls.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
	-days "${DAYS:-365}" -extfile "$new/ext" -out "$new/tls.crt" 2>/dev/null
cp "$pki/ca.crt" "$new/ca.crt"
mv "$new/tls.key" "$new/tls.crt" "$new/ca.crt" "$pki/$name/"

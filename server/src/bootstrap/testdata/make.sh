#!/bin/sh
# Certificates and keys in each form that a state directory may hold. Made with openssl 3; the keys guard nothing.
set -eu
cd "$(dirname "$0")"
self_signed() { openssl req -x509 -new -key "$1/key.pem" -out "$1/cert.pem" -days 36500 -subj /CN=aws-iam-authenticator -addext subjectAltName=DNS:localhost; }
mkdir -p rsa-pkcs1 rsa-pkcs8 ec-sec1 ec-pkcs8 ed25519 chain
openssl genrsa -traditional -out rsa-pkcs1/key.pem 2048
openssl pkcs8 -topk8 -nocrypt -in rsa-pkcs1/key.pem -out rsa-pkcs8/key.pem
openssl ecparam -name prime256v1 -genkey -out ec-sec1/key.pem
openssl pkcs8 -topk8 -nocrypt -in ec-sec1/key.pem -out ec-pkcs8/key.pem
openssl genpkey -algorithm ed25519 -out ed25519/key.pem
for form in rsa-pkcs1 rsa-pkcs8 ec-sec1 ec-pkcs8 ed25519; do self_signed "$form"; done
# A leaf that another certificate signed, and both in one file.
openssl ecparam -name prime256v1 -genkey -noout -out chain/key.pem
openssl req -new -key chain/key.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost |
    openssl x509 -req -days 36500 -copy_extensions copy -CA ec-pkcs8/cert.pem -CAkey ec-pkcs8/key.pem -out chain/cert.pem
cat ec-pkcs8/cert.pem >> chain/cert.pem

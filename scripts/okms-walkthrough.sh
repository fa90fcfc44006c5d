#!/usr/bin/env bash
# Walks through OVHcloud's published usage guide of OKMS against a running server, with curl and the administrator's
# certificate; signatures are checked by openssl and tokens by jose. One line per step; the first deviation ends it
# with what was expected and what came. Environment: KMS_HOME (default ./var).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
admin=${KMS_HOME:-./var}/clients/admin.json
[ -r "$admin" ] || { echo "okms-walkthrough: no installation: $admin cannot be read" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# json FILE EXPRESSION: prints the value of a JavaScript expression over the parsed file, called `it`.
json() {
  node -e 'const it = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
           const value = eval(process.argv[2]); process.stdout.write(typeof value === "string" ? value : JSON.stringify(value) ?? "undefined")' "$1" "$2"
}

fail() {
  echo "FAILED at: $step" >&2
  echo "  expected: $1" >&2
  echo "  came:     $2" >&2
  exit 1
}

equal() { [ "$1" = "$2" ] || fail "$1" "$2"; }
differ() { [ "$1" != "$2" ] || fail "something else than $1" "$2"; }
matches() { [[ $2 =~ $1 ]] || fail "text like $1" "$2"; }
done_() { echo "ok  $step"; }

okmsId=$(json "$admin" it.okmsId)
base=$(json "$admin" it.endpoint)/api/$okmsId/v1
ca=$(json "$admin" it.ca) cert=$(json "$admin" it.cert) key=$(json "$admin" it.key)
body=$work/body.json

# call STATUS METHOD PATH [JSON]: the body of the answer is in $body afterwards.
call() {
  local wanted=$1 method=$2 path=$3 status
  local data=()
  [ $# -lt 4 ] || data=(--header 'Content-Type: application/json' --data-binary "$4")
  : >"$body"
  status=$(curl --silent --show-error --cacert "$ca" --cert "$cert" --key "$key" --request "$method" \
    --output "$body" --write-out '%{http_code}' "${data[@]}" "$base$path") || fail "$method $path: $wanted" "no answer"
  [ "$status" = "$wanted" ] || fail "$method $path: $wanted" "$status $(cat "$body")"
}

# refused STATUS ERROR_CODE METHOD PATH [JSON]
refused() {
  local status=$1 code=$2
  shift 2
  call "$status" "$@"
  equal "$code" "$(json "$body" it.error_code)"
}

b64() { printf '%s' "$1" | base64 -w 0; }
field() { json "$body" "$1"; }

step='create an AES key of 256 bits'
call 201 POST /servicekey '{"name":"guide-aes","context":"walkthrough","type":"oct","size":256,"operations":["encrypt","decrypt"]}'
aes=$(field it.id)
equal 'oct 256 active' "$(field '`${it.type} ${it.size} ${it.attributes.state}`')"
equal '["encrypt","decrypt"]' "$(field it.operations)"
done_

step='create an RSA key of 2048 bits'
call 201 POST /servicekey '{"name":"guide-rsa","type":"RSA","size":2048,"operations":["sign","verify"]}'
rsa=$(field it.id)
equal 'RSA 2048 active' "$(field '`${it.type} ${it.size} ${it.attributes.state}`')"
done_

step='create an EC key on P-256'
call 201 POST /servicekey '{"name":"guide-ec","type":"EC","crv":"P-256","operations":["sign","verify"]}'
ec=$(field it.id)
equal 'EC P-256 active' "$(field '`${it.type} ${it.curve} ${it.attributes.state}`')"
done_

step='create an AES key for data keys'
call 201 POST /servicekey '{"name":"guide-wrap","type":"oct","size":256,"operations":["wrapKey","unwrapKey"]}'
wrap=$(field it.id)
equal '["wrapKey","unwrapKey"]' "$(field it.operations)"
done_

step='the list shows all four'
token= listed=
while :; do
  call 200 GET "/servicekey?max=100&continuation-token=$token"
  listed+=" $(field 'it.objects_list.map(({ id }) => id).join(" ")') "
  [ "$(field it.is_truncated)" = true ] || break
  token=$(field it.continuation_token)
done
for id in "$aes" "$rsa" "$ec" "$wrap"; do [[ $listed == *" $id "* ]] || fail "key $id in the list" "$listed"; done
done_

step='get one of them'
call 200 GET "/servicekey/$aes"
equal "$aes guide-aes" "$(field '`${it.id} ${it.name}`')"
done_

plaintext=$(b64 'the message of the guide')

step='encrypt with a context'
call 200 POST "/servicekey/$aes/encrypt" "{\"plaintext\":\"$plaintext\",\"context\":\"order 7\"}"
ciphertext=$(field it.ciphertext)
matches '^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{22}$' "$ciphertext"
done_

# header TOKEN: number of parts, and the protected header as jose reads it.
header() {
  (cd "$root" && node --input-type=module -e '
    import { decodeProtectedHeader } from "jose";
    const [token] = process.argv.slice(1);
    process.stdout.write(`${token.split(".").length} ${JSON.stringify(decodeProtectedHeader(token))}`);' "$1")
}

step='jose reads the ciphertext as a compact JWE of five parts'
equal "5 {\"alg\":\"dir\",\"enc\":\"A256GCM\",\"kid\":\"$aes\",\"x-key-ver\":0}" "$(header "$ciphertext")"
done_

step='decrypt with the same context'
call 200 POST "/servicekey/$aes/decrypt" "{\"ciphertext\":\"$ciphertext\",\"context\":\"order 7\"}"
equal "$plaintext" "$(field it.plaintext)"
done_

step='decrypt with another context, and with none, is refused'
refused 400 50536452 POST "/servicekey/$aes/decrypt" "{\"ciphertext\":\"$ciphertext\",\"context\":\"order 8\"}"
refused 400 50536452 POST "/servicekey/$aes/decrypt" "{\"ciphertext\":\"$ciphertext\"}"
done_

step='generate a data key'
call 201 POST "/servicekey/$wrap/datakey" '{"name":"guide-data-key","size":256}'
datakey=$(field it.key) clear=$(field it.plaintext)
equal 203 "${#datakey}"
equal 32 "$(printf '%s' "$clear" | base64 -d | wc -c | tr -d ' ')"
equal "5 {\"alg\":\"dir\",\"enc\":\"A256GCM\",\"kid\":\"$wrap\",\"x-key-ver\":0}" "$(header "$datakey")"
done_

step='decrypt the data key: the same bytes'
call 200 POST "/servicekey/$wrap/datakey/decrypt" "{\"key\":\"$datakey\"}"
equal "$clear" "$(field it.plaintext)"
done_

step='another data key is another one'
call 201 POST "/servicekey/$wrap/datakey" '{"size":256}'
differ "$clear" "$(field it.plaintext)"
done_

printf 'a message to sign' >"$work/message"
message=$(base64 -w 0 <"$work/message")

# public ID FILE: the exported JWK as PEM.
public() {
  call 200 GET "/servicekey/$1?format=jwk"
  equal "$1" "$(field 'it.keys[0].kid')"
  node -e 'const { keys: [key] } = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
           process.stdout.write(require("node:crypto").createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" }))' "$body" >"$2"
}

step='export the public keys'
public "$rsa" "$work/rsa.pem"
public "$ec" "$work/ec.pem"
openssl pkey -pubin -in "$work/rsa.pem" -noout
openssl pkey -pubin -in "$work/ec.pem" -noout
done_

# der FILE: raw r and s of P-256 → DER, as openssl wants it.
der() {
  node -e 'const raw = require("node:fs").readFileSync(process.argv[1]);
           if (raw.length !== 64) throw new Error(`expected 64 bytes of r and s, found ${raw.length}`);
           const integer = (bytes) => {
             const first = bytes.findIndex((byte) => byte !== 0);
             const value = bytes[first] < 0x80 ? bytes.subarray(first) : Buffer.concat([Buffer.of(0), bytes.subarray(first)]);
             return Buffer.concat([Buffer.of(2, value.length), value]);
           };
           const both = Buffer.concat([integer(raw.subarray(0, 32)), integer(raw.subarray(32))]);
           process.stdout.write(Buffer.concat([Buffer.of(0x30, both.length), both]))' "$1"
}

# sign_and_check ID ALG PEM [OPENSSL OPTIONS]
sign_and_check() {
  local id=$1 alg=$2 pem=$3 signature verdict
  shift 3
  step="sign with $alg"
  call 200 POST "/servicekey/$id/sign" "{\"message\":\"$message\",\"alg\":\"$alg\"}"
  signature=$(field it.signature)
  printf '%s' "$signature" | base64 -d >"$work/$alg.sig"
  done_
  step="openssl verifies the $alg signature, and refuses another message"
  if [ "$alg" = ES256 ]; then der "$work/$alg.sig" >"$work/$alg.der"; else cp "$work/$alg.sig" "$work/$alg.der"; fi
  verdict=$(openssl dgst -sha256 -verify "$pem" "$@" -signature "$work/$alg.der" "$work/message" 2>&1) || :
  equal 'Verified OK' "$verdict"
  if printf 'another message' | openssl dgst -sha256 -verify "$pem" "$@" -signature "$work/$alg.der" >/dev/null 2>&1; then
    fail 'a refusal by openssl' 'Verified OK'
  fi
  done_
  step="verify $alg through the API: true, and false for another message"
  call 200 POST "/servicekey/$id/verify" "{\"message\":\"$message\",\"alg\":\"$alg\",\"signature\":\"$signature\"}"
  equal true "$(field it.result)"
  call 200 POST "/servicekey/$id/verify" "{\"message\":\"$(b64 'another message')\",\"alg\":\"$alg\",\"signature\":\"$signature\"}"
  equal false "$(field it.result)"
  done_
}

sign_and_check "$rsa" RS256 "$work/rsa.pem"
sign_and_check "$rsa" PS256 "$work/rsa.pem" -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256
sign_and_check "$ec" ES256 "$work/ec.pem"

step='an active key cannot be deleted'
refused 400 50536450 DELETE "/servicekey/$aes"
done_

step='deactivate every key'
call 204 POST "/servicekey/$aes/deactivate" '{"reason":"cessation_of_operation"}'
for id in "$rsa" "$ec" "$wrap"; do call 204 POST "/servicekey/$id/deactivate"; done
call 200 GET "/servicekey/$aes"
equal deactivated "$(field it.attributes.state)"
done_

step='a deactivated key is not usable'
refused 400 50536450 POST "/servicekey/$aes/decrypt" "{\"ciphertext\":\"$ciphertext\",\"context\":\"order 7\"}"
refused 400 50536450 POST "/servicekey/$wrap/datakey/decrypt" "{\"key\":\"$datakey\"}"
refused 400 50536450 POST "/servicekey/$rsa/sign" "{\"message\":\"$message\",\"alg\":\"RS256\"}"
done_

step='activate it: the ciphertext opens again'
call 204 POST "/servicekey/$aes/activate"
call 200 POST "/servicekey/$aes/decrypt" "{\"ciphertext\":\"$ciphertext\",\"context\":\"order 7\"}"
equal "$plaintext" "$(field it.plaintext)"
call 204 POST "/servicekey/$aes/deactivate"
done_

step='delete as the guide writes it'
call 204 DELETE "/servicekey/$aes/delete"
done_

step='delete as the API writes it'
call 204 DELETE "/servicekey/$rsa"
call 204 DELETE "/servicekey/$ec"
call 204 DELETE "/servicekey/$wrap"
done_

step='a deleted key is not found any more'
for id in "$aes" "$rsa" "$ec" "$wrap"; do refused 404 50548737 GET "/servicekey/$id"; done
refused 404 50548737 POST "/servicekey/$aes/decrypt" "{\"ciphertext\":\"$ciphertext\",\"context\":\"order 7\"}"
refused 404 50548737 DELETE "/servicekey/$aes/delete"
done_

echo 'The guide works from its first step to its last.'

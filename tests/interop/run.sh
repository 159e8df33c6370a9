#!/usr/bin/env bash
# Unmodified clients of other vendors against the sandbox example.
#
#   tests/interop/run.sh [name…]
#
# Names: py-pubnub py-ringcentral js-pubnub js-ringcentral, over the gateway
# py-ringcentral-ws js-ringcentral-ws js-rc-ex-ws, and as sources of Engage Digital,
# crawled by the example digital_crawler, py-engage-source js-engage-source, and of the
# Contact Center, py-nice-incontact.
#
# Installs what it needs into INTEROP_CACHE (default target/interop), builds the
# sandbox example, runs each client against a sandbox of its own, and prints
# "N passed, M failed". Needs python3 with venv, node 20 or newer with npm, and
# openssl (for a certificate that lives as long as the run).
set -u -o pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
cache="${INTEROP_CACHE:-$root/target/interop}"
mkdir -p "$cache"

venv() { # venv NAME PACKAGE…
  local dir="$cache/$1" stamp
  shift
  stamp="$dir/.installed"
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$*" ] && return 0
  python3 -m venv "$dir" && "$dir/bin/pip" install --quiet --disable-pip-version-check "$@" && echo "$*" > "$stamp"
}

modules() { # modules NAME PACKAGE…
  local dir="$cache/$1" stamp
  shift
  stamp="$dir/.installed"
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$*" ] && return 0
  mkdir -p "$dir" && echo '{"private":true}' > "$dir/package.json" &&
    (cd "$dir" && npm install --no-audit --no-fund --loglevel=error "$@" > /dev/null) && echo "$*" > "$stamp"
}

install() {
  case "$1" in
    py-pubnub) venv py-pubnub 'pubnub==10.8.*' pycryptodome ;;
    py-ringcentral-ws) venv py-ringcentral-ws 'ringcentral==0.9.2' ;;
    js-ringcentral-ws) modules js-ringcentral-ws '@ringcentral/sdk@5.0.11' '@ringcentral/subscriptions@5.0.11' ;;
    js-rc-ex-ws) modules js-rc-ex-ws '@rc-ex/core@1.8.6' '@rc-ex/ws@1.4.2' ;;
    py-engage-source) venv py-engage-source 'ringcentral-engage-digital-source-sdk==0.0.1' requests ;;
    js-engage-source) modules js-engage-source 'ringcentral-engage-source@0.1.9' ;;
    py-nice-incontact) venv py-nice-incontact 'tap-nice-incontact==0.3.1' ;;
    py-ringcentral) venv py-ringcentral 'ringcentral==0.7.18' ;;
    js-pubnub) modules js-pubnub 'pubnub@11.0' ;;
    js-ringcentral) modules js-ringcentral '@ringcentral/sdk@4.7.4' '@ringcentral/subscriptions@4.7.4' 'pubnub@4.37' ;;
    *) echo "no client of this name: $1" >&2; return 2 ;;
  esac
}

client() {
  case "$1" in
    py-*) "$cache/$1/bin/python" "$here/${1//-/_}.py" ;;
    # Node looks for modules beside the script, so it runs a copy of it there.
    js-*) cp "$here/$1.mjs" "$here/sandbox.mjs" "$cache/$1/" && node "$cache/$1/$1.mjs" ;;
  esac
}

field() {
  python3 -c 'import json,sys; it=json.loads(sys.argv[1])[sys.argv[2]]; print(it if isinstance(it, str) else json.dumps(it))' "$1" "$2"
}

run() {
  install "$1" || return 1
  local line status
  # The sandbox runs until its input ends.
  coproc SANDBOX { exec "$sandbox" --hold-ms 1000; }
  local pid=$SANDBOX_PID input=${SANDBOX[1]}
  if ! read -r -t 20 line <&"${SANDBOX[0]}"; then
    echo "the sandbox did not start"
    return 1
  fi
  export RC_SERVER_URL RC_PUBNUB_ORIGIN RC_APP_CLIENT_ID RC_APP_CLIENT_SECRET RC_USER_JWT RC_CONTACT_CENTER INTEROP_CACHE="$cache"
  RC_SERVER_URL="$(field "$line" base_url)"
  RC_PUBNUB_ORIGIN="$(field "$line" pubnub_origin)"
  RC_APP_CLIENT_ID="$(field "$line" client_id)"
  RC_APP_CLIENT_SECRET="$(field "$line" client_secret)"
  RC_USER_JWT="$(field "$line" jwt)"
  RC_CONTACT_CENTER="$(field "$line" contact_center)"
  # Loopback never goes by a proxy of the machine.
  export no_proxy="127.0.0.1,localhost" NO_PROXY="127.0.0.1,localhost"
  timeout 120 bash -c "$(declare -f client); client $1" 2>&1 | sed "s/^/  $1: /"
  status=${PIPESTATUS[0]}
  exec {input}>&-
  wait "$pid" 2> /dev/null
  return "$status"
}

(cd "$root" && cargo build --quiet --example sandbox --example digital_crawler --all-features) || exit 1
target="$(cd "$root" && cargo metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')"
sandbox="$target/debug/examples/sandbox"
DIGITAL_CRAWLER="$target/debug/examples/digital_crawler"
export here cache DIGITAL_CRAWLER

[ $# -gt 0 ] || set -- py-pubnub py-ringcentral js-pubnub js-ringcentral py-ringcentral-ws js-ringcentral-ws js-rc-ex-ws py-engage-source js-engage-source py-nice-incontact
passed=0
failed=0
for name in "$@"; do
  if run "$name"; then
    echo "ok   $name"
    passed=$((passed + 1))
  else
    echo "FAIL $name"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

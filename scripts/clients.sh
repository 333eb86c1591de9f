#!/usr/bin/env bash
# Brings what other people's software the tests speak to a node with: Python's gRPC and HTTP/3, schemathesis, an OpenAPI
# validator. Each set of scripts/clients/ goes into a virtual environment of its own in $MESHKIT_CACHE/clients
# (~/.cache/meshkit/clients), installed once and again when the set changes.
#
#   scripts/clients.sh         installs what is missing; exits 1 where a set could not be had, saying why
#
# ./check runs it before the tests. Where a set cannot be had (no Python, no network) the tests that need it are left out
# and listed: MESHKIT_CLIENTS_MISSING holds the reason then. Without that variable they fail.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${MESHKIT_CACHE:-$HOME/.cache/meshkit}/clients

missing() {
    echo "clients: $*" >&2
    exit 1
}

# install SET: makes its environment, unless it is there. The list that is kept in it last says that it is whole.
install() {
    local list=$here/clients/$1.txt into=$cache/$1
    cmp -s "$list" "$into/installed.txt" && return
    echo "clients: fetching $1 into $into" >&2
    rm -rf "$into"
    python3 -m venv "$into" >&2 || missing "Python cannot make a virtual environment (Debian: apt-get install python3-venv)"
    if ! timeout 300 "$into/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$list" >&2; then
        rm -rf "$into"
        missing "pip could not bring what $list names"
    fi
    cp "$list" "$into/installed.txt"
}

{ command -v curl >/dev/null && curl --version | grep -q HTTP2; } || missing "there is no curl that speaks HTTP/2"
[[ $(printf '%s\n' 7.84 "$(curl --version | sed -n '1s/^curl \([0-9.]*\).*/\1/p')" | sort -V | head -n 1) == 7.84 ]] ||
    missing "curl is older than 7.84"
command -v python3 >/dev/null || missing "there is no python3"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || missing "python3 is older than 3.10"
mkdir -p "$cache"
if command -v flock >/dev/null; then
    exec 9>"$cache/lock"
    flock 9
fi
for list in "$here"/clients/*.txt; do install "$(basename "$list" .txt)"; done

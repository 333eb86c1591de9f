#!/usr/bin/env bash
# A real browser against built nodes: trades a token for a cookie, watches by EventSource, and goes on by Last-Event-ID when
# its node is killed (node/harness/tests/it/e2e/browser.rs, scripts/clients/browser.py).
#
#   scripts/browser.sh         installs Debian's Chromium if there is none (as root), builds, and runs the test
#
# ./check runs the same test where Chromium is installed, and lists it as left out where it is not. Exits 1 where Chromium
# cannot be had, saying why.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/setup.sh
. "$here/setup.sh"
cd "$ROOT"
if [[ ! -x /usr/bin/chromium ]]; then
    command -v apt-get >/dev/null || die "there is no Chromium, and no apt-get to install it with"
    [[ $EUID == 0 ]] || die "there is no Chromium; install it as root: apt-get install chromium"
    say "installing Chromium"
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } ||
        die "Chromium could not be installed"
fi
command -v openssl >/dev/null || die "there is no openssl (Debian: apt-get install openssl)"
build_workspace
cargo test --locked --release --workspace --test it -- --exact e2e::browser::an_event_source_finds_its_way_back --nocapture

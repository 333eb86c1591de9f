#!/usr/bin/env bash
# Builds the program of the feature level before this one, target/release/meshkit-node-previous: upgrade tests run it beside
# meshkit-node. It comes from the same sources with the feature `previous-level`, so only the crates that see feature levels
# are compiled a second time (about two minutes on two cores the first time, seconds where nothing changed). It is never
# shipped. Run it after cargo build; ./check does.
set -euo pipefail

# shellcheck source=scripts/setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
build_previous

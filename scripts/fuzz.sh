#!/usr/bin/env bash
# Gives the decoders of the API, of what is stored and of what nodes tell each other millions of inputs: tokens, selectors,
# paths, bodies, headers, the forwarding header, join tokens, gRPC frames, log entries, rows, backups; frames between nodes
# and what is in them; and, one for every twenty of those, streams of HTTP/3. Ends at the first that is not survived, and
# shows it.
#
#   scripts/fuzz.sh                    ten million inputs to the API's, as many to those between nodes, with a seed of its own
#   scripts/fuzz.sh 1000000 7          a million each, with the seed 7: the same inputs each time
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
inputs=${1:-10000000}
seed=${2:-$(date +%s)}
if ! [[ $inputs =~ ^[1-9][0-9]*$ && $seed =~ ^[0-9]+$ ]]; then
    echo "fuzz: INPUTS and SEED are numbers" >&2
    exit 2
fi
# shellcheck source=scripts/setup.sh
. "$here/setup.sh"
cd "$ROOT"
MESHKIT_FUZZ_INPUTS=$inputs MESHKIT_FUZZ_SEED=$seed cargo test --locked --release --workspace --lib --test it -- \
    --nocapture fuzz::decoders_survive_whatever_comes

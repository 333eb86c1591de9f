#!/usr/bin/env bash
# A rolling restart of a large fleet: simulated peers over real connections, each stopped and started again while watchers follow.
# Every watcher has to end with the exact map, no two peers may serve one shard, and none may go unserved for too long.
#
#   scripts/hyperscale.sh                      200 peers, 5,000 shards, 100 watchers
#   scripts/hyperscale.sh 1000 10000 20        another size: peers, shards, watchers
#
# ./check plays the same with 50 peers, 1,000 shards and 20 watchers. Queries and simulations of a large map are timed by
# `meshkit-bench shards`. Exits 1 where anything was found.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
peers=${1:-200} shards=${2:-5000} watchers=${3:-100}
for number in "$peers" "$shards" "$watchers"; do
    if ! [[ $number =~ ^[1-9][0-9]*$ ]]; then
        echo "hyperscale: '$number' is no number of peers, shards or watchers" >&2
        exit 2
    fi
done
# shellcheck source=scripts/setup.sh
. "$here/setup.sh"
cd "$ROOT"
build_workspace
MESHKIT_FLEET=$peers,$shards,$watchers cargo test --locked --release --workspace --test it -- \
    --exact e2e::fleet::a_rolling_restart_leaves_every_watcher_with_the_exact_map --nocapture

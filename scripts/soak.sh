#!/usr/bin/env bash
# Plays what ./check plays once, again and again: nodes replaced, certificates rotated, clusters upgraded, restored and
# recovered, leaders killed, the contract and the decoders tried with other inputs, the simulation with other seeds. Ends at
# the first failure, or when the time is up.
#
#   scripts/soak.sh            for an hour
#   scripts/soak.sh 600        for ten minutes
#
# Prints one line per test run and a table at the end; exits 1 where a run failed (its output is kept and named).
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
seconds=${1:-3600}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
    echo "soak: '$seconds' is no number of seconds" >&2
    exit 2
fi
# shellcheck source=scripts/setup.sh
. "$here/setup.sh"
cd "$ROOT"
build_workspace && build_previous

# Built once, and run by name: cargo would look at the whole tree each time.
mapfile -t built < <(cargo test --locked --release --workspace --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"reason":"compiler-artifact".*"src_path":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p')
binary() {
    local pair
    for pair in "${built[@]}"; do
        if [[ ${pair% *} == "$ROOT/$1/tests/it/main.rs" ]]; then
            printf '%s' "${pair#* }"
            return
        fi
    done
    die "no test program of $1 was built"
}
programs=$(binary node/harness)
registers=$(binary jepsen-style-tests)
plays=(e2e::growing e2e::joining e2e::edges e2e::copies e2e::rotation e2e::upgrade e2e::backup e2e::rebuilt e2e::kills e2e::fitness e2e::contract)

log=$(mktemp -d "${TMPDIR:-/tmp}/meshkit-soak.XXXXXX")
end=$((SECONDS + seconds))
runs=0
play() {
    local folder=$1 program=$2 name=$3 started=$SECONDS
    # The contract is tried with more requests than ./check makes up, and with others each time.
    if ! (cd "$folder" && export MESHKIT_CONTRACT_EXAMPLES=30 MESHKIT_CONTRACT_SEED=$RANDOM && 
        "$program" --test-threads 2 ${name:+"$name"}) >"$log/output" 2>&1; then
        echo "soak: ${name:-registers} failed in run $((runs + 1)); its output is in $log/output" >&2
        exit 1
    fi
    runs=$((runs + 1))
    printf '%6d s  %-16s ok, %d s\n' "$SECONDS" "${name:-registers}" $((SECONDS - started))
}
while [[ $SECONDS -lt $end ]]; do
    for name in "${plays[@]}"; do
        [[ $SECONDS -lt $end ]] || break
        play node/harness "$programs" "$name"
    done
    [[ $SECONDS -lt $end ]] && play jepsen-style-tests "$registers" ''
done
rm -rf "$log"
echo "soak: $runs runs in $SECONDS s, none failed"

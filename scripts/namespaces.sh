#!/usr/bin/env bash
# Whether tests can have network namespaces of their own here, with a switch between them, as node/harness/src/network.rs
# makes them: root, or a system that lets everybody make user namespaces; `unshare` and `ip`.
#
#   scripts/namespaces.sh      exits 1 where they cannot be had, saying why; leaves nothing behind
#
# ./check runs it before the tests. Where it says no, the tests that need namespaces are left out and listed:
# MESHKIT_NAMESPACES_MISSING holds the reason then. Without that variable they fail.
set -euo pipefail

missing() {
    echo "namespaces: $*" >&2
    exit 1
}

command -v unshare >/dev/null || missing "there is no unshare (Debian: apt-get install util-linux)"
command -v ip >/dev/null || missing "there is no ip (Debian: apt-get install iproute2)"
as=()
[[ $(id -u) -eq 0 ]] || as=(--user --map-root-user)
probe='mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link add switch type bridge && ip netns add node &&
    ip link add port type veth peer name nodes netns node && ip link set port master switch up &&
    echo 0 >/proc/sys/net/ipv4/ip_forward && ip netns exec node true'
said=$(unshare ${as[@]+"${as[@]}"} --net --mount -- sh -c "$probe" 2>&1) ||
    missing "they cannot be made: $(tr '\n' ' ' <<<"$said")"

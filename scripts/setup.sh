#!/usr/bin/env bash
# Finds what a build needs and tells cargo where it is. ./demo and ./check source it; run it yourself before plain cargo in
# a fresh tree.
#
# It installs nothing system-wide unless you are root on a machine with apt-get; everything else goes to $MESHKIT_CACHE
# (~/.cache/meshkit). It can be run again and again: what is there is used.
#
# What this machine's build needs is exported (perhaps CXX, LIBCLANG_PATH, BINDGEN_EXTRA_CLANG_ARGS, ROCKSDB_LIB_DIR,
# ROCKSDB_STATIC) and written to .cargo/local.toml, which .cargo/config.toml includes: cargo builds RocksDB again when one of
# them comes or goes, so plain cargo must see them too.
# For the scripts: ROOT, MESHKIT_CACHE, TARGET_DIR; build_workspace, build_previous, pip_tool, say, die.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
MESHKIT_CACHE=${MESHKIT_CACHE:-$HOME/.cache/meshkit}
LIBCLANG_PIP_VERSION=18.1.1

# choose NAME VALUE: exports it, and remembers that it was chosen here as opposed to found in the environment. What an
# earlier run chose (this script sourced twice, or ./demo inside ./check) is chosen afresh.
choose() {
    export "$1=$2" MESHKIT_CHOSEN="${MESHKIT_CHOSEN:-} $1"
}
for name in ${MESHKIT_CHOSEN:-}; do unset "$name"; done
unset MESHKIT_CHOSEN name
say() { printf '%s\n' "setup: $*" >&2; }
die() {
    printf '%s\n' "setup: $*" >&2
    exit 1
}

# use_equal_toolchain VERSION: a toolchain of another name ("stable") may be that very release; it serves where nothing can
# be downloaded.
use_equal_toolchain() {
    local name
    for name in $(rustup toolchain list | cut -d' ' -f1); do
        if [[ $(rustup run "$name" rustc --version 2>/dev/null) == "rustc $1 "* ]]; then
            export RUSTUP_TOOLCHAIN=$name
            say "toolchain '$name' is Rust $1: using it"
            return
        fi
    done
    return 1
}

# Rust: rust-toolchain.toml names the release; rustup installs it when asked.
setup_rust() {
    [[ -x $HOME/.cargo/bin/cargo && :$PATH: != *:$HOME/.cargo/bin:* ]] && PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || die "no cargo found. Install Rust with rustup (https://rustup.rs), then run this again."
    local wanted
    wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
    if command -v rustup >/dev/null; then
        if ! rustup toolchain list | grep -q "^$wanted-"; then
            say "installing Rust $wanted (rust-toolchain.toml asks for it)"
            rustup toolchain install "$wanted" --no-self-update --profile minimal --component rustfmt --component clippy >&2 ||
                use_equal_toolchain "$wanted" || die "rustup could not install Rust $wanted: see the message above."
        fi
    elif [[ $(cd "$ROOT" && rustc --version) != "rustc $wanted"* ]]; then
        say "using $(rustc --version); this tree is tested with $wanted, which rustup would bring"
    fi
}

# True when the compiler takes RocksDB's language, C++20.
compiles_cpp20() {
    command -v "$1" >/dev/null &&
        printf '#include <compare>\n#include <concepts>\nint main() { return (1 <=> 2) < 0 ? 0 : 1; }\n' |
        "$1" -std=c++20 -x c++ -fsyntax-only - 2>/dev/null
}

# A C++20 compiler (gcc 11 or later, clang 14 or later): RocksDB is C++.
setup_compiler() {
    if compiles_cpp20 "${CXX:-c++}"; then return; fi
    [[ -z ${CXX:-} ]] || die "CXX=$CXX does not compile C++20, which RocksDB is written in. Name gcc 11 or later, or clang 14 or later."
    local candidate
    for candidate in g++ clang++ g++-{15,14,13,12,11} clang++-{20,19,18,17,16,15,14}; do
        if compiles_cpp20 "$candidate"; then
            choose CXX "$candidate"
            say "using $candidate: 'c++' is missing or too old for RocksDB (C++20)"
            return
        fi
    done
    apt_install "a C++ compiler (RocksDB is C++20)" g++ || true
    compiles_cpp20 c++ || die "no C++20 compiler found. Install gcc 11 or later (Debian: apt-get install g++), then run this again."
}

# jemalloc, the node's allocator, is built by its own Makefile.
setup_make() {
    command -v gmake >/dev/null || command -v make >/dev/null || apt_install "make, which jemalloc is built with" make ||
        die "no make found, which jemalloc is built with. Install it (Debian: apt-get install make), then run this again."
}

# apt_install WHY PACKAGE...: only as root, only where apt-get is.
apt_install() {
    local why=$1
    shift
    [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null || return 1
    say "installing $* with apt-get: $why"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >&2
}

# Prints a folder that holds libclang, among those that the build looks through by itself.
libclang_in_system() {
    local file
    for file in /usr/lib/llvm-*/lib/libclang{,-*}.so* /usr/lib{,64}{,/*}/libclang{,-*}.so* /usr/local/{lib,llvm*/lib}/libclang{,-*}.so*; do
        if [[ -e $file && $file != *libclang-cpp* ]]; then
            dirname "$file"
            return
        fi
    done
    return 1
}

# libclang reads RocksDB's C header when its Rust bindings are made. Nothing is exported where the build finds libclang by
# itself, since a change of these variables makes cargo build RocksDB again.
setup_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] && return
    local dir
    if ! dir=$(libclang_in_system); then
        if apt_install "libclang, which reads RocksDB's header" libclang-dev && dir=$(libclang_in_system); then
            return
        fi
        dir=$(pip_tool libclang "$LIBCLANG_PIP_VERSION" "libclang, which reads RocksDB's header") ||
            die "no libclang found and pip could not bring it. Install it (Debian: apt-get install libclang-dev), or set LIBCLANG_PATH to its folder."
        dir=$(dirname "$(find "$dir" -name 'libclang.so' -o -name 'libclang.dylib' | head -n 1)")
        choose LIBCLANG_PATH "$dir"
    fi
    # A libclang without clang's own headers (stddef.h and so on) borrows gcc's.
    if [[ -z ${BINDGEN_EXTRA_CLANG_ARGS:-} ]] && ! compgen -G "$dir/clang/*/include/stddef.h" >/dev/null && ! command -v clang >/dev/null; then
        choose BINDGEN_EXTRA_CLANG_ARGS "-I$("${CC:-cc}" -print-file-name=include)"
    fi
}

# pip_tool PACKAGE VERSION WHY: prints the folder of a Python package kept in the cache, installed there when it is not.
pip_tool() {
    local dir=$MESHKIT_CACHE/$1-$2 tmp
    if [[ ! -d $dir ]]; then
        command -v python3 >/dev/null || return 1
        mkdir -p "$MESHKIT_CACHE"
        tmp=$(mktemp -d "$MESHKIT_CACHE/.$1.XXXXXX")
        say "fetching $1 $2 into $dir: $3"
        if ! { python3 -m venv "$tmp" && "$tmp/bin/pip" install -q --disable-pip-version-check "$1==$2"; } >&2 2>&1 &&
            ! python3 -m pip install -q --disable-pip-version-check --target "$tmp" "$1==$2" >&2; then
            rm -rf "$tmp"
            return 1
        fi
        mv -T "$tmp" "$dir" 2>/dev/null || rm -rf "$tmp"
    fi
    printf '%s\n' "$dir"
}

# What a kept librocksdb.a depends on, as a folder name: its version, the compiler, its features and the processor built for.
rocksdb_key() {
    local described version features compiler cpu
    described=$(cd "$ROOT" && cargo tree --locked --quiet -p librocksdb-sys --depth 0 --prefix none -f '{p}|{f}' 2>/dev/null | head -n 1)
    version=$(sed -n 's/^librocksdb-sys v\([^ |]*\).*/\1/p' <<<"$described")
    [[ -n $version ]] || return 1
    features=$(sed 's/.*|//; s/,/-/g' <<<"$described")
    compiler=$("${CXX:-c++}" --version | head -n 1 | tr -cs 'A-Za-z0-9.\n' '_' | cut -c1-60)
    cpu=$(sed -n 's/^rustflags.*target-cpu=\([A-Za-z0-9-]*\).*/\1/p' "$ROOT/.cargo/config.toml" | head -n 1)
    printf 'rocksdb-%s-%s-%s-%s-%s\n' "$version" "$compiler" "${features:-none}" "$(uname -m)" "${cpu:-default}"
}

# Prints the librocksdb.a that this target folder compiled itself, if it did (for the version in the key).
rocksdb_built_here() {
    local out version=${1#rocksdb-} # "output" is what the build script printed, "out" beside it is its folder
    for out in "$TARGET_DIR"/release/build/librocksdb-sys-*/output; do
        [[ -f $out && -f ${out%put}/librocksdb.a ]] || continue
        # The version is in the path of the sources that the build script names.
        grep -q "cargo_manifest_dir=.*/librocksdb-sys-${version%%-*}\$" "$out" || continue
        # A build that took the kept library names its folder instead of its own.
        grep -q "link-search=native=${out%put}\$" "$out" || continue
        printf '%s\n' "${out%put}/librocksdb.a"
        return
    done
    return 1
}

# RocksDB is most of a first build: once it is kept, every tree takes it from there, also one that compiled its own. Cargo
# would otherwise compile it again for every other set of packages (`-p …`), since the features of its build script's own
# dependencies differ between them.
setup_rocksdb() {
    [[ -n ${ROCKSDB_LIB_DIR:-} || -n ${ROCKSDB_COMPILE:-} ]] && return
    local key
    # Shows what it downloads; at once done where everything is there. A lock file that does not fit is said here.
    if ! (cd "$ROOT" && cargo fetch --locked >&2) || ! key=$(rocksdb_key); then
        say "cargo cannot tell which RocksDB this tree wants: leaving .cargo/local.toml as it is"
        leave_local_config=yes
        return
    fi
    if [[ -f $MESHKIT_CACHE/$key/librocksdb.a ]]; then
        choose ROCKSDB_LIB_DIR "$MESHKIT_CACHE/$key"
        choose ROCKSDB_STATIC 1
    fi
}

# Tells plain cargo what was chosen. The file is left alone when it says so already.
write_local_config() {
    [[ -z $leave_local_config ]] || return 0
    local file=$ROOT/.cargo/local.toml name text=''
    for name in ${MESHKIT_CHOSEN:-}; do text+="$name = \"${!name}\""$'\n'; done
    if [[ -z $text ]]; then
        rm -f "$file"
        return
    fi
    text="# Written by scripts/setup.sh for this machine; not kept in git."$'\n[env]\n'$text
    [[ -f $file && $(<"$file")$'\n' == "$text" ]] || printf '%s' "$text" >"$file"
}

# After a build: keeps the compiled library for every later one.
keep_rocksdb() {
    local key library tmp
    [[ -z ${ROCKSDB_LIB_DIR:-} ]] || return 0
    key=$(rocksdb_key) && library=$(rocksdb_built_here "$key") || return 0
    [[ ! -e $MESHKIT_CACHE/$key ]] || return 0
    mkdir -p "$MESHKIT_CACHE" && tmp=$(mktemp -d "$MESHKIT_CACHE/.rocksdb.XXXXXX") || return 0
    if cp "$library" "$tmp/" && chmod 755 "$tmp" && mv -T "$tmp" "$MESHKIT_CACHE/$key"; then
        say "kept the compiled RocksDB in $MESHKIT_CACHE/$key: no later build on this machine compiles it"
    else
        rm -rf "$tmp"
    fi
}

# The build that everything shares: one profile, so RocksDB is compiled once.
build_workspace() {
    if [[ ! -x $TARGET_DIR/release/meshkit-node ]]; then
        if [[ -n ${ROCKSDB_LIB_DIR:-} ]]; then
            say "first build of this tree, with the RocksDB kept in $ROCKSDB_LIB_DIR: 5-10 minutes on two cores"
        else
            say "the first build takes 15-25 minutes on two cores, most of it RocksDB (C++); later builds take seconds to minutes"
        fi
    fi
    (cd "$ROOT" && cargo build --locked --release --workspace) || return 1
    keep_rocksdb
    if [[ -z ${ROCKSDB_LIB_DIR:-} ]]; then
        # Now rather than in the middle of the next command: links against the kept library, about a minute.
        setup_rocksdb
        write_local_config
        [[ -z ${ROCKSDB_LIB_DIR:-} ]] || (cd "$ROOT" && cargo build --locked --release --workspace) || return 1
    fi
}

# The program of the feature level before. The workspace's selection, so that what does not see levels is shared.
build_previous() {
    (cd "$ROOT" && cargo build --locked --release --workspace --bin meshkit-node-previous \
        --features meshkit-node/previous-level) || return 1
    # Cargo leaves a program alone that is up to date; the tests compare ages to find one that is not.
    touch "$TARGET_DIR/release/meshkit-node-previous"
}

# Said now: a disk that fills up in the middle fails in ways that name anything but the disk.
check_space() {
    local folder=$TARGET_DIR free needed=3
    [[ -d $TARGET_DIR/release ]] || needed=12
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    free=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1048576))
    [[ $free -ge $needed ]] || die "$free GB are free in $folder; a build needs $needed GB. Make room, or set CARGO_TARGET_DIR \
to a folder on a larger disk. (What $TARGET_DIR/release/incremental holds can be removed at any time.)"
}

leave_local_config=''
setup_rust
setup_compiler
setup_make
# Where cargo builds: $CARGO_TARGET_DIR, else target/ in the tree.
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
[[ $TARGET_DIR == /* ]] || TARGET_DIR=$ROOT/$TARGET_DIR
check_space
setup_libclang
setup_rocksdb
write_local_config
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    say "cargo is ready: cargo build --release --workspace (the tree has one profile, release)"
fi

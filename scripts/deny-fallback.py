#!/usr/bin/env python3
"""Checks licences, bans and sources as deny.toml states them, where cargo-deny is not to be had.

Reads the same deny.toml; the graph is what `cargo tree` resolves for the targets named there. It knows less than cargo-deny: no
advisories, no yanked versions, and it believes the licence that a manifest states. Needs Python 3.11 (tomllib).
Prints one line per violation and exits 1 where there is any.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def tokens(expression: str) -> list[str]:
    """Splits an SPDX expression; the older "A/B" form means "A OR B"."""
    return re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))


def satisfied(expression: str, allowed: set[str]) -> bool:
    """True where the allowed licences fulfil the expression. AND binds closer than OR."""
    rest = tokens(expression)

    def term() -> bool:
        if not rest:
            raise ValueError("ends too early")
        if (word := rest.pop(0)) == "(":
            inner = either()
            if not rest or rest.pop(0) != ")":
                raise ValueError("a parenthesis is left open")
            return inner
        if rest and rest[0] == "WITH":
            rest.pop(0)
            word = f"{word} WITH {rest.pop(0)}"
        return word in allowed or word.removesuffix("+") in allowed or word.removesuffix("-or-later") in allowed

    def both() -> bool:
        result = term()
        while rest and rest[0] == "AND":
            rest.pop(0)
            result = term() and result
        return result

    def either() -> bool:
        result = both()
        while rest and rest[0] == "OR":
            rest.pop(0)
            result = both() or result
        return result

    result = either()
    if rest:
        raise ValueError(f"unexpected {rest[0]!r}")
    return result


def resolved(targets: list[str]) -> dict[str, str]:
    """"name version" of every package in the graph, members aside, with the licence its manifest states."""
    command = ["cargo", "tree", "--locked", "--workspace", "-e", "normal,build,dev"]
    command += [word for target in targets for word in ("--target", target)]
    command += ["--prefix", "none", "--no-dedupe", "-f", "{p}|{l}"]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    packages = {}
    for line in filter(None, out.splitlines()):
        package, _, licence = line.partition("|")
        if f"({ROOT}" not in package:
            name, version = package.split()[:2]
            packages[f"{name} {version.removeprefix('v')}"] = licence.strip()
    return packages


def violations(policy: dict) -> list[str]:
    found = []
    packages = resolved(policy["graph"]["targets"])
    allowed = set(policy["licenses"]["allow"])
    exceptions = {e["name"]: set(e["allow"]) for e in policy["licenses"].get("exceptions", [])}
    banned = {b["name"] for b in policy["bans"].get("deny", [])}
    for package, licence in sorted(packages.items()):
        name = package.split()[0]
        try:
            if not satisfied(licence, allowed | exceptions.get(name, set())):
                found.append(f"licence: {package} is under {licence!r}, which deny.toml does not allow")
        except (ValueError, IndexError) as error:
            found.append(f"licence: {package} states {licence!r}, which is not an SPDX expression: {error}")
        if name in banned:
            found.append(f"ban: {package} is banned by deny.toml (cargo tree -i {name} shows who wants it)")
    for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]:
        source = package.get("source")
        if source not in (None, CRATES_IO):
            found.append(f"source: {package['name']} {package['version']} comes from {source}, not from crates.io")
    for manifest in [ROOT / "Cargo.toml", *ROOT.glob("*/Cargo.toml"), *ROOT.glob("*/*/Cargo.toml")]:
        document = tomllib.loads(manifest.read_text())
        tables = [document.get(k, {}) for k in ("dependencies", "dev-dependencies", "build-dependencies")]
        for table in [document.get("workspace", {}).get("dependencies", {}), *tables]:
            for name, wanted in table.items():
                if (wanted if isinstance(wanted, str) else wanted.get("version")) == "*":
                    found.append(f"wildcard: {manifest.relative_to(ROOT)} takes any version of {name}")
    print(f"{len(packages)} packages looked at", file=sys.stderr)
    return found


def main() -> int:
    try:
        found = violations(tomllib.loads((ROOT / "deny.toml").read_text()))
    except subprocess.CalledProcessError as error:
        print(f"cargo tree failed ({error.returncode}): see its message above", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

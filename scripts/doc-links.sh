#!/usr/bin/env bash
# Every relative link in the documents leads to a file, and every page of docs/errors is in its index.
# shellcheck disable=SC2016 # the backticks are Markdown's
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

broken=0
while IFS= read -r -d '' page; do
    while IFS= read -r link; do
        link=${link%%#*}
        [[ -n $link && $link != *://* && $link != mailto:* ]] || continue
        if [[ ! -e $(dirname "$page")/$link ]]; then
            echo "$page: no such file: $link"
            broken=1
        fi
    done < <(sed 's/`[^`]*`//g' "$page" | grep -oE '\]\([^) ]+\)' | sed 's/^](//; s/)$//')
done < <(find README.md docs -name '*.md' -print0)

for page in docs/errors/*.md; do
    name=$(basename "$page")
    if [[ $name != README.md ]] && ! grep -qF "]($name)" docs/errors/README.md; then
        echo "docs/errors/README.md does not list $name"
        broken=1
    fi
done
exit "$broken"

#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what is missing, builds the storm optimised and lets it blow: storm.sh MINUTES [OPTION...]
# Prints one line of figures at the end. Options are the program's: --subject NAME, --seed N.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
export CCACHE_DIR=${CCACHE_DIR:-$root/build/ccache}
if [ $# -eq 0 ]; then
    echo "usage: tools/storm.sh MINUTES [--subject NAME]... [--seed N]"
    exit 2
fi
minutes=$1
shift

"$root/tools/install_deps.sh"
cd "$root"
mkdir -p build
if ! { cmake --preset storm && cmake --build --preset storm; } >build/storm.log 2>&1; then
    cat build/storm.log
    exit 1
fi
exec build/storm/tests/storm --minutes "$minutes" "$@"

#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# First figures, each beside its peers in the same run: queue, start, pool. Not a test.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
"$root/tools/install_deps.sh" cmake ninja-build g++ libboost-dev libfmt-dev libtbb-dev python3
cd "$root"
mkdir -p build
if ! { cmake --preset release -DMULTIPROCESSING_BUILD_BENCHMARKS=ON && cmake --build --preset release \
    --target bench_queue bench_start bench_pool; } >build/bench.log 2>&1; then
    cat build/bench.log
    exit 1
fi
uname -srm
nproc --all | sed 's/$/ CPUs/'
exec python3 bench/first.py build/release/bench

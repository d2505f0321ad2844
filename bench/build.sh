#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Builds the benchmark programs that are named, and says on which machine.
set -euo pipefail

cd "$(dirname "$0")/.."
tools/install_deps.sh cmake ninja-build g++ libboost-dev libfmt-dev libtbb-dev python3
mkdir -p build
if ! { cmake --preset release -DMULTIPROCESSING_BUILD_BENCHMARKS=ON &&
    cmake --build --preset release --target "$@"; } >build/bench.log 2>&1; then
    cat build/bench.log
    exit 1
fi
uname -srm
nproc --all | sed 's/$/ CPUs/'

#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# First figures, each beside its peers in the same run: queue, start, pool. Not a test.
set -euo pipefail

cd "$(dirname "$0")/.."
bench/build.sh bench_queue bench_start bench_pool
exec python3 bench/first.py build/release/bench

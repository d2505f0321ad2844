#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# The pool's figures, each beside its peers in the same run, and beside its goal. Not a test.
set -euo pipefail

cd "$(dirname "$0")/.."
bench/build.sh bench_pool
exec python3 bench/pool.py build/release/bench

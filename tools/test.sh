#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what is missing, builds all tests and examples, and runs the tests.
# Arguments go to ctest: tools/test.sh -R queues
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
export CCACHE_DIR=${CCACHE_DIR:-$root/build/ccache}
# Python's examples would leave their byte code beside their source.
export PYTHONDONTWRITEBYTECODE=1

"$root/tools/install_deps.sh"
cd "$root"
cmake --preset dev
cmake --build --preset dev
# The preset leaves out the long suites; ctest --test-dir build/dev -L long runs them.
ctest --preset dev "$@"

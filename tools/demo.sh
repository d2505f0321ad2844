#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what is missing, builds the examples, runs four of them and says what was seen.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/release
export CCACHE_DIR=${CCACHE_DIR:-$root/build/ccache}

"$root/tools/install_deps.sh" cmake ninja-build g++ libboost-dev libfmt-dev \
    libpng-dev nlohmann-json3-dev
cd "$root"
mkdir -p build
echo "building the examples ..."
if ! { cmake --preset release && cmake --build --preset release --target \
    ticket_booking producer_consumer word_count mandelbrot; } >build/demo.log 2>&1; then
    cat build/demo.log
    exit 1
fi

# What the programs write goes into the build tree.
cd "$build"
seen=()
run() {
    printf '\n$ %s\n' "$*"
    timeout 120 "$@" | tee "$build/demo.out"
}
saw() {
    if grep -qE -- "$1" "$build/demo.out"; then
        seen+=("$2")
    else
        printf '\nexpected to see: %s (/%s/)\n' "$2" "$1"
        exit 1
    fi
}

run examples/ticket_booking
saw '^without the lock: ([2-9]|[0-9]{2,}) buyers$' "without a lock, several buyers got the one ticket"
saw '^with the lock: 1 buyer$' "with the lock, exactly one did"

run examples/producer_consumer
seen+=("producers and consumers shared a queue, and all of them ended")

run examples/word_count
saw '^all counted the same: yes$' "the words below /usr/include were counted serially and by processes, with the same result"

run examples/mandelbrot "$build/mandelbrot.png"
saw '^the pictures are the same: yes$' "a pool drew build/release/mandelbrot.png as the serial program did"

printf '\nseen:\n'
printf '  - %s\n' "${seen[@]}"

#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Runs the suite that tools/test.sh has built again and again, several runs at a time so that they
# disturb each other: soak.sh [RUNS [AT_ONCE]]   (100 runs, two at a time). Each has two tests at a
# time, as the preset has.
# Leaves out what builds something. The output of a run that failed stays in build/soak.
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
runs=${1:-100}
at_once=${2:-2}
export PYTHONDONTWRITEBYTECODE=1

[ -f build/dev/CTestTestfile.cmake ] || {
    echo "there is no build/dev; run tools/test.sh first" >&2
    exit 2
}

# Each has a folder for ctest's own files; they would overwrite each other's.
one_after_another() {
    local worker=$1 failures=0
    local folder=build/soak/$worker
    mkdir -p "$folder"
    printf 'subdirs("%s")\n' "$root/build/dev" >"$folder/CTestTestfile.cmake"
    for ((run = worker; run <= runs; run += at_once)); do
        local log=build/soak/run-$run.log begin=$SECONDS
        if ctest --test-dir "$folder" -j2 --output-on-failure -LE 'long|compile_fail|package' \
            -E '^tools: the umbrella is light$' >"$log" 2>&1; then
            echo "run $run: $(grep -o '[0-9]* tests failed out of [0-9]*' "$log"), $((SECONDS - begin)) s"
            rm "$log"
        else
            echo "run $run: FAILED, see $log"
            grep -F '(Failed)' "$log" || tail -3 "$log"
            failures=$((failures + 1))
        fi
    done
    echo "$failures" >"$folder/failures"
}

rm -rf build/soak
for ((worker = 1; worker <= at_once; worker++)); do one_after_another "$worker" & done
wait

failed=$(cat build/soak/*/failures | awk '{sum += $1} END {print sum}')
echo "$runs runs, $at_once at a time: $failed failed, $SECONDS s"
[ "$failed" -eq 0 ]

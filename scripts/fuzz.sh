#!/usr/bin/env bash
# Fuzzes what reads bytes from strangers for some seconds a target, with the compiler that there is: coverage guides the
# search, but no sanitizer looks on, which `cargo fuzz` with a nightly compiler adds. Begins with the records of ZooKeeper's
# own classes. Needs a C++ compiler. What breaks a target is written below fuzz/artifacts, and the exit code is 1.
#
#   scripts/fuzz.sh [SECONDS [TARGET…]]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(connect request reply)

python3 scripts/fuzz-corpus.py
# What cargo-fuzz passes, but for the sanitizer.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing -Cdebug-assertions"
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, build scripts and macros are not instrumented.
built=${CARGO_TARGET_DIR:-target}/fuzz
cargo build --manifest-path fuzz/Cargo.toml --target-dir "$built" --target "$host"
for target in "${targets[@]}"; do
    echo "== $target, for $seconds s"
    mkdir -p "fuzz/artifacts/$target"
    "$built/$host/debug/$target" "fuzz/corpus/$target" -artifact_prefix="fuzz/artifacts/$target/" \
        -max_total_time="$seconds" -max_len=4096 -malloc_limit_mb=64 -print_final_stats=1
done

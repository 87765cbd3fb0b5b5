#!/usr/bin/env bash
# What a change has to pass: format, lints, builds without features, documents, tests. Changes no file of the source.
# Every step runs even when an earlier one failed; the exit code is 1 if any did.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

failed=()
step() {
    echo
    echo "== $*"
    local began=$SECONDS
    if "$@"; then
        echo "== done in $((SECONDS - began)) s"
    else
        echo "== FAILED after $((SECONDS - began)) s: $*"
        failed+=("$*")
    fi
}

# From cheap to dear. The lints and the documents share what they compile of the dependencies; the tests share nothing
# with them, and no step compiles anything in the release profile.
step cargo fmt --all --check
step cargo clippy --workspace --all-targets -- -D warnings
step cargo clippy --lib --no-default-features -- -D warnings
step cargo clippy --lib --no-default-features --features client -- -D warnings
# The fuzz targets, without the engine that they are linked with when they run.
step env CUSTOM_LIBFUZZER_PATH=/nowhere/libnone.a cargo check --manifest-path fuzz/Cargo.toml \
    --target-dir "${CARGO_TARGET_DIR:-target}/fuzz"
step env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
step cargo test --workspace --no-fail-fast
# What a reader of README.md pastes, with the program that the tests have built.
step scripts/readme.sh
# The chaos suite in its short form, with the programs that the tests have built: the comparison, about a minute, and
# each other workload on roost, as long again. A run that does not end is a failure like others.
programs="${CARGO_TARGET_DIR:-target}/debug"
out="${ROOST_JEPSEN_OUT:-target/jepsen}"
step timeout 600 "$programs/roost-jepsen" compare --target roost,ap-described,ap-careful --seed 7 --duration 12s --timeout 2s --out "$out"
step timeout 600 "$programs/roost-jepsen" run --target roost --workload set,lock,session,watch,multi,monotonic --seed 7 --duration 10s \
    --timeout 2s --out "$out/workloads"

echo
if [ ${#failed[@]} -gt 0 ]; then
    printf 'check: failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "check: all is well"

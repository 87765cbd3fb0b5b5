#!/usr/bin/env bash
# What a change has to pass: format, lints, builds without features, documents, tests, the chaos suite in its short form.
# Changes no file of the source. Every step runs even when an earlier one failed; the exit code is 1 if any did.
#
#     scripts/check.sh                    all of it
#     scripts/check.sh build              only what reads and compiles, tests included: needs nothing but Rust
#     scripts/check.sh test               only the tests, with what a reader of README.md and the SDK's examples run
#     scripts/check.sh chaos              only the chaos suite, with the programs that the tests have built
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

parts=("$@")
[ $# -gt 0 ] || parts=(build test chaos)
for part in "${parts[@]}"; do
    case $part in
    build | test | chaos) ;;
    *) echo "check: there is no part $part" >&2; exit 2 ;;
    esac
done
target="${CARGO_TARGET_DIR:-target}"

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

# Steps that mostly wait for processes and faults run two at a time; what each says is printed when it has ended.
saying=$(mktemp -d)
trap 'rm -rf "$saying"' EXIT
running=()
started=0
step_beside() {
    [ ${#running[@]} -lt 2 ] || await_oldest
    started=$((started + 1))
    (
        trap - EXIT
        failed=()
        step "$@"
        exit ${#failed[@]}
    ) >"$saying/$started" 2>&1 &
    running+=("$! $started $*")
}
await_oldest() {
    local pid number what
    read -r pid number what <<<"${running[0]}"
    running=("${running[@]:1}")
    wait "$pid" || failed+=("$what")
    cat "$saying/$number"
}

# From cheap to dear. The lints and the documents share what they compile of the dependencies; the tests share nothing
# with them, and no step compiles anything in the release profile.
build() {
    step cargo fmt --all --check
    step cargo clippy --workspace --all-targets -- -D warnings
    step cargo clippy --lib --no-default-features -- -D warnings
    step cargo clippy --lib --no-default-features --features client -- -D warnings
    # The fuzz targets, without the engine that they are linked with when they run.
    step env CUSTOM_LIBFUZZER_PATH=/nowhere/libnone.a cargo check --manifest-path fuzz/Cargo.toml \
        --target-dir "$target/fuzz"
    step env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    step cargo test --workspace --no-run
}

tests() {
    step cargo test --workspace --no-fail-fast
    # What a reader of README.md pastes, with the program that the tests have built.
    step scripts/readme.sh
    # The examples of the SDK, likewise.
    step scripts/examples.sh
}

out="${ROOST_JEPSEN_OUT:-$target/jepsen}"
# Begins a run of the suite that has to end within so many seconds: one that does not end is a failure like others.
jepsen() { # jepsen SECONDS DIRECTORY WHAT...
    step_beside timeout --kill-after=30 "$1" "$target/debug/roost-jepsen" "${@:3}" --timeout 2s --out "$2"
}

# The page of the comparison as a browser draws it, to be looked at: the path is in the last lines of the gate.
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
picture() {
    rm -f "$out/report.png"
    timeout 120 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1100,4200 \
        --user-data-dir="$(mktemp -d)" --screenshot="$out/report.png" "file://$(realpath "$out")/report.html" 2>/dev/null
    # An empty page of this size is some 20 KB.
    [ "$(stat --format=%s "$out/report.png" 2>/dev/null || echo 0)" -gt 60000 ]
}

# The comparison, and each other workload on roost; then one short run for each family of faults that is not in these; then
# five nodes in a ring, and nodes in namespaces: on a bridge, and on a switch of the suite. What cannot be made on this
# machine is left out with a line.
chaos() {
    jepsen 600 "$out" compare --target roost,ap-described,ap-careful --seed 7 --duration 12s
    jepsen 600 "$out/workloads" run --target roost --workload set,lock,session,watch,multi,monotonic --seed 7 --duration 10s
    local family workload
    for family in clock rate fsync full power damage member; do
        # While all nodes are without power what clients write has no known outcome; those of registers also read.
        [ $family = power ] && workload=register || workload=set
        jepsen 180 "$out/$family" run --target roost --workload $workload --seed 7 --faults $family --duration 14s
    done
    jepsen 180 "$out/five" run --target roost --workload set --schedule scripts/schedules/five.txt
    if [ "$(id -u)" = 0 ] && command -v nft >/dev/null && command -v ip >/dev/null; then
        jepsen 180 "$out/namespaces" run --target roost --workload register --net namespaces --schedule scripts/schedules/namespaces.txt
        jepsen 180 "$out/switch" run --target roost --workload register --net switch --schedule scripts/schedules/switch.txt
    else
        echo "check: no root, nft or ip, so nodes are not put into namespaces"
    fi
    while [ ${#running[@]} -gt 0 ]; do await_oldest; done
    if [ -n "$browser" ]; then step picture; else echo "check: no browser, so the report is not looked at"; fi
}

for part in "${parts[@]}"; do
    case $part in
    build) build ;;
    test) tests ;;
    chaos) chaos ;;
    esac
done

echo
if [ ${#failed[@]} -gt 0 ]; then
    printf 'check: failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "check: all is well"

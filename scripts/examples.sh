#!/usr/bin/env bash
# Runs the examples of the SDK against a cluster of its own: providers that come, go and die under a consumer that must not
# notice.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
cargo build --quiet --bin roost --example provider --example consumer
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# Ports that nobody has at this moment, 1000 apart as `dev` needs them.
base=$((20000 + RANDOM % 8000))
export ROOST_ENDPOINTS="127.0.0.1:$base"
"$target/debug/roost" dev --ephemeral --nodes 1 --base-port "$base" >"$work/dev" 2>&1 &
pids+=($!)
until "$target/debug/roost" --timeout 1s services >/dev/null 2>&1; do sleep 0.2; done

# Waits until a service has so many providers.
has() {
    until [ "$("$target/debug/roost" service get "$1" 2>/dev/null | grep -c "$3")" = "$2" ]; do sleep 0.1; done
}

"$target/debug/examples/provider" web "127.0.0.1:$((base + 21))" >"$work/p1" & first=$!
"$target/debug/examples/provider" web "127.0.0.1:$((base + 22))" >"$work/p2" & second=$!
pids+=("$first" "$second")
has web 2 "127.0.0.1:$((base + 2))"
# What is meant for another process that had the address is refused, not done.
status=$(curl -s -o /dev/null -w '%{http_code}' -H 'Roost-Incarnation: 1' "http://127.0.0.1:$((base + 21))/")
[ "$status" = 421 ]
echo "examples: a call for another incarnation was refused"
ROOST_CACHE="$work/cache" "$target/debug/examples/consumer" web 60 >"$work/c" & consumer=$!
pids+=("$consumer")
until grep -q "$((base + 21))" "$work/c" && grep -q "$((base + 22))" "$work/c"; do sleep 0.1; done
# One dies, without a word; the other goes on alone.
kill -9 "$first"
wait "$consumer"
echo "examples: 60 calls, none failed, though one of two providers died"

kill "$second"
wait "$second"
grep -q "left" "$work/p2"
echo "examples: the other has left in good order"

#!/usr/bin/env bash
# Runs the examples of the SDK against a cluster of its own: providers that come, go, die and start anew under consumers that
# must not notice, over HTTP and over gRPC. Takes the programs that `cargo test --workspace` has made; makes them if there are
# none. What takes longer than two minutes has failed. Needs curl.
set -euo pipefail
cd "$(dirname "$0")/.."

programs="${CARGO_TARGET_DIR:-target}/debug"
if [ ! -x "$programs/roost" ] || [ ! -x "$programs/examples/provider" ] || [ ! -x "$programs/examples/grpc" ]; then
    cargo build --quiet --workspace --bin roost --example provider --example consumer --example grpc
fi
roost=$programs/roost
work=$(mktemp -d)
finish() {
    local code=$?
    # The cluster is the first, and has a directory to remove; all others are of no use without it.
    for pid in $(jobs -pr); do
        [ "$pid" = "${dev:-}" ] && signal=TERM || signal=KILL
        kill -$signal "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [ $code != 0 ]; then
        echo "examples: failed; what they said last:" >&2
        tail -n 5 "$work"/*.log >&2 || true
    fi
    rm -rf "$work"
}
trap finish EXIT
start() { # start NAME COMMAND...: in the background, with its output in a file; its process id is in $pid
    "${@:2}" >"$work/$1.log" 2>&1 &
    pid=$!
}
await() { # await WHAT COMMAND...: until it succeeds
    until "${@:2}" >/dev/null 2>&1; do
        [ $SECONDS -lt 120 ] || { echo "examples: this never came about: $1" >&2; exit 1; }
        sleep 0.1
    done
}

# Ports that nobody has at this moment, 1000 apart as `dev` needs them.
base=$((20000 + RANDOM % 8000))
at() { echo "127.0.0.1:$((base + $1))"; }
export ROOST_ENDPOINTS
ROOST_ENDPOINTS=$(at 0)
start dev "$roost" dev --ephemeral --nodes 1 --base-port "$base"
dev=$pid
await "a cluster" "$roost" --timeout 1s services

provides() { # provides SERVICE ID: whether it is listed
    "$roost" service get "$1" | grep -qF "$2"
}
provider() { # provider NAME PORT
    ROOST_STATE="$work/state-$2" start "$1" "$programs/examples/provider" web "$(at "$2")"
}
provider first 21
first=$pid
provider second 22
second=$pid
await "the first provider" provides web "$(at 21)"
await "the second provider" provides web "$(at 22)"
# What is meant for another process that had the address is refused, not done.
status=$(curl -s -o /dev/null -w '%{http_code}' -H 'Roost-Incarnation: 1' "http://$(at 21)/")
[ "$status" = 421 ]
echo "examples: a call for another incarnation was refused"

ROOST_CACHE="$work/cache" start consumer "$programs/examples/consumer" web 40
consumer=$pid
await "calls of the first" grep -qF "$(at 21)" "$work/consumer.log"
await "calls of the second" grep -qF "$(at 22)" "$work/consumer.log"
# One dies, without a word, and starts anew before its session has expired; the registration is its own again.
kill -9 "$first"
wait "$first" 2>/dev/null || true
provider again 21
await "the first provider's return" grep -q 'Registered {' "$work/again.log"
if grep -q 'node_exists' "$work/again.log"; then exit 1; fi
wait "$consumer"
echo "examples: 40 calls, none failed, though one of two providers died and came back"

# The same over gRPC, with a channel that the registry resolves.
for port in 31 32; do
    start "grpc-$port" "$programs/examples/grpc" serve who "$(at $port)"
    await "a gRPC provider" provides who "$(at $port)"
done
dying=$pid
start grpc-call "$programs/examples/grpc" call who 30
calling=$pid
await "gRPC calls of one" grep -qF "$(at 31)" "$work/grpc-call.log"
await "gRPC calls of the other" grep -qF "$(at 32)" "$work/grpc-call.log"
kill -9 "$dying"
wait "$calling"
echo "examples: 30 gRPC calls, none failed, though one of two providers died"

kill "$second"
wait "$second"
grep -q "left" "$work/second.log"
echo "examples: the other has left in good order"

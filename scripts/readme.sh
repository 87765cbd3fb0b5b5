#!/usr/bin/env bash
# Pastes the five minutes of README.md into a shell beside a `roost dev`, as a reader would, and checks what they promise.
# Takes the program that `cargo test` or `cargo build` has made, or the one that ROOST names. Needs curl, python3 and pgrep,
# and the ports that the tour names; leaves nothing behind.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

roost=$(realpath "${ROOST:-${CARGO_TARGET_DIR:-target}/debug/roost}") || exit 1
readme=$PWD/README.md
for tool in curl python3 pgrep; do
    command -v "$tool" >/dev/null || { echo "readme: $tool is not installed: the tour of README.md is skipped"; exit 0; }
done
for port in 7081 7082 7083 8081 8082 8083 8091 8092 8093 9001; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "readme: port $port is taken, which the tour of README.md needs: stop what listens there" >&2
        exit 1
    fi
done

dir=$(mktemp -d)
mkdir -p "$dir/target/release" && ln -s "$roost" "$dir/target/release/roost"
dev="" tour=""
finish() {
    # What the tour has started is in its process group.
    [ -n "$tour" ] && kill -9 -- "-$tour" 2>/dev/null
    [ -n "$dev" ] && kill -9 -- "-$dev" 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
failed() {
    echo "readme: $*" >&2
    echo "--- the tour:" >&2
    cat "$dir/out" >&2
    echo "--- roost dev:" >&2
    cat "$dir/dev.log" >&2
    exit 1
}

# Every block of shell in the part, each behind a line that tells them apart.
awk '
    /^## / { inside = ($0 == "## Five minutes") }
    inside && /^```sh$/ { block = 1; count++; print "echo; echo \"## block " count "\""; next }
    inside && /^```/ { block = 0; next }
    block { print }
' "$readme" >"$dir/tour.sh"
blocks=$(grep -c '^echo; echo "## block' "$dir/tour.sh")
[ "$blocks" -ge 7 ] || failed "only $blocks blocks of shell are found in $readme"

: >"$dir/out"
(cd "$dir" && exec setsid "$roost" dev) >"$dir/dev.log" 2>&1 </dev/null &
dev=$!
for ((tries = 0; ; tries++)); do
    grep -q 'nodes are ready' "$dir/dev.log" && break
    kill -0 "$dev" 2>/dev/null || failed "roost dev has ended"
    [ "$tries" -lt 600 ] || failed "roost dev is not ready after a minute"
    sleep 0.1
done
(cd "$dir" && unset ROOST_ENDPOINTS && exec setsid timeout 120 bash tour.sh) >"$dir/out" 2>&1 </dev/null &
tour=$!
wait "$tour"
ended=$?
[ "$ended" != 124 ] || failed "the tour does not end"

# Returns what one block printed, with what the subscription printed meanwhile.
block() {
    awk -v wanted="## block $1" '/^## block / { inside = ($0 == wanted) } inside' "$dir/out"
}
# says WHERE TEXT: a block, or `all`, has printed a text.
says() {
    if [ "$1" = all ]; then cat "$dir/out"; else block "$1"; fi | grep -qF -- "$2" || failed "block $1 does not say: $2"
}
says_not() {
    # Neither what the subscription shows counts, nor what the shell says of jobs that were killed.
    ! block "$1" | grep -vE '^([-+~] |tour\.sh: line)' | grep -qF -- "$2" || failed "block $1 says: $2"
}
providers=/services/web/providers

says 1 leader
says all "+ $providers/127.0.0.1:9001"
says all "+ $providers/127.0.0.1:9002"
# The list.
says 4 "zone=a"
says 4 "127.0.0.1:9002"
# Stopped in order, and killed.
says all "- $providers/127.0.0.1:9002"
says all "- $providers/127.0.0.1:9001"
says 6 "ADDRESS"
says_not 6 "127.0.0.1:9001"
# Written through a failover, once.
says 7 "written through a failover"
says 7 "dataVersion = 1"
[ "$(block 7 | grep -c '^cluster ')" = 1 ] || failed "block 7 does not show the cluster"
# By curl: registered on one node, listed by another, shown by the stream of a third, renewed, closed.
says 8 '"port":9003'
says 8 'event: snapshot'
says 8 '"next_renew_ms"'
says all "+ $providers/127.0.0.1:9003"
says all "- $providers/127.0.0.1:9003"
! grep -qE 'command not found|syntax error|panicked|^error: ' "$dir/out" || failed "something in it has failed"

kill -INT "$dev"
wait "$dev"
ended=$?
dev=""
[ "$ended" = 0 ] || failed "roost dev has ended with $ended"
echo "readme: the tour of README.md does what it says ($blocks blocks)"

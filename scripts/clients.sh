#!/usr/bin/env bash
# Real, unmodified ZooKeeper clients against three servers on this machine.
#
#   scripts/clients.sh [--against roost|zookeeper] [--binary target/debug/roost] [--keep] [SUITE…]
#
# Installs what is missing, starts the servers, runs the suites one after the other, and stops the servers. Against
# ZooKeeper it shows that the suites themselves are right. The last line is `N passed, N failed`, over all of them.
# SUITE is one of those below; all when left out. --keep keeps the servers' files, and says where they are.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

against=roost
target=${CARGO_TARGET_DIR:-target}
binary=$target/debug/roost
keep=
suites=()
while [ $# -gt 0 ]; do
    case $1 in
    --against) against=${2:?roost or zookeeper}; shift ;;
    --binary) binary=${2:?a program}; shift ;;
    --keep) keep=yes ;;
    -*) echo "clients: unknown option $1" >&2; exit 2 ;;
    *) suites+=("$1") ;;
    esac
    shift
done
# zkCli is first: ZooKeeper 3.8.0 forgets recursive watches once persistent ones have been removed.
[ ${#suites[@]} -gt 0 ] ||
    suites=(zkcli four-letter-words kazoo-basics kazoo-recipes dubbo node c rust curator kazoo-failures)

work=$target/clients
scripts/clients/install.sh "$work" || exit 1
work=$(cd "$work" && pwd)
here=$PWD/scripts/clients
python=$work/venv/bin/python
dir=$(mktemp -d)

# The ensemble ends at the end of its stdin: with this shell, however that ends.
mkfifo "$dir/stdin"
python3 "$here/ensemble.py" "$against" --binary "$binary" --dir "$dir" <"$dir/stdin" &
ensemble=$!
exec 9>"$dir/stdin"
finish() {
    exec 9>&-
    wait "$ensemble"
    if [ "$keep" ]; then echo "clients: the servers' files are in $dir"; else rm -rf "$dir"; fi
}
trap finish EXIT
until [ -e "$dir/env" ]; do
    kill -0 "$ensemble" 2>/dev/null || { tail -n 20 "$dir"/*/log; exit 1; }
    sleep 0.1
done
# shellcheck disable=SC1091
. "$dir/env"

java_class_path() {
    local jar found=$work/curator
    for jar in curator-{framework,recipes,x-discovery,client} zookeeper zookeeper-jute guava slf4j-api slf4j-nop \
        jackson-{databind,core,annotations}; do
        found+=:/usr/share/java/$jar.jar
    done
    echo "$found"
}

newer() {
    [ -n "$(find "$1" -type f -newer "$2" -print -quit 2>/dev/null || echo missing)" ] || [ ! -e "$2" ]
}

suite() {
    case $1 in
    zkcli) python3 "$here/zkcli/zkcli.py" ;;
    kazoo-* | four-letter-words | dubbo) "$python" "$here/python/$(tr - _ <<<"$1").py" ;;
    node) NODE_PATH=$work/node/node_modules node "$here/node/suite.js" ;;
    c)
        mkdir -p "$work/c" &&
            cc -Wall -Wextra -O1 -DTHREADED -o "$work/c/suite" "$here/c/suite.c" -lzookeeper_mt &&
            "$work/c/suite"
        ;;
    curator)
        local classes
        classes=$(java_class_path)
        if newer "$here/curator" "$work/curator/Suite.class"; then
            mkdir -p "$work/curator" && javac -nowarn -d "$work/curator" -cp "$classes" "$here"/curator/*.java || return
        fi
        java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$classes" Suite
        ;;
    rust)
        CARGO_TARGET_DIR=$work/rust CARGO_INCREMENTAL=0 \
            cargo run --quiet --locked --manifest-path "$here/rust/Cargo.toml"
        ;;
    *) echo "clients: unknown suite $1" ;;
    esac
}

# A suite that hangs is ended, and counts as one failure: each of its own tests is bounded already. The limit leaves
# room for compiling the crate, which is the longest of all on a busy machine.
limit_s=600
export -f suite java_class_path newer
export here work python
passed=0
failed=0
for name in "${suites[@]}"; do
    echo
    echo "== $name against $against"
    began=$SECONDS
    timeout --kill-after=5 "$limit_s" bash -c "suite $name" >"$dir/$name.out" 2>&1 9>&-
    code=$?
    grep -vE '^ok |^[0-9]+ passed, [0-9]+ failed$' "$dir/$name.out"
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$dir/$name.out" | tail -n 1)
    if [ -z "$counts" ]; then
        echo "clients: $name did not end by itself, exit code $code; the last that passed:"
        grep '^ok ' "$dir/$name.out" | tail -n 1
        counts="0 passed, 1 failed"
    fi
    echo "== $name: $counts in $((SECONDS - began)) s"
    read -r suite_passed _ suite_failed _ <<<"$counts"
    passed=$((passed + suite_passed))
    failed=$((failed + suite_failed))
done
echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

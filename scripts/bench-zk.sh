#!/usr/bin/env bash
# Apache ZooKeeper and roost through the same client protocol, in one run, on this machine: writes of 256 B, reads, and
# resident memory. Prints a table and writes bench-zk.json. `--help` shows the options.
#
#   cargo build --release && scripts/bench-zk.sh --binary target/release/roost
#
# Both have their defaults, and both acknowledge a write when a majority has it on its disk; choose that with --dir.
set -euo pipefail
cd "$(dirname "$0")/.."

work=${CARGO_TARGET_DIR:-target}/clients
scripts/clients/install.sh "$work"
cc -O2 -Wall -Wextra -o "$work/load" scripts/bench/load.c
exec python3 scripts/bench/compare.py --load "$work/load" \
    --binary "${CARGO_TARGET_DIR:-target}/release/roost" "$@"

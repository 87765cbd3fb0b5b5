#!/usr/bin/env bash
# Plants one bug after the other (src/mutants.rs) and runs the part of the tests that has to find it. The last lines are a
# table: what found each bug and how fast. The exit code is 0 only if every one was found, and nothing without one.
#
#     scripts/mutants.sh            all of them: minutes to build, then most of them seconds each
#     scripts/mutants.sh M05 M20    only these, and only what they need is built
#
# A bug is found when a test, a seed or a promise says so by its name; a run that hangs, or fails without a name, is none.
# M02 needs root and loop devices, as the power cuts do.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# Bug, binary of tests, tests in it, what it is. `process`: the built program under the chaos suite, with a target, a
# workload and a schedule of scripts/schedules.
mutants='
M01 simulation no_seed acknowledged before the log is synced
M02 powercut - a commit ends without fdatasync
M03 simulation voted the vote is not saved
M04 simulation no_seed a leader that restarts goes on leading
M05 simulation no_seed a linearizable read of the local state
M05 process roost:register:stale a linearizable read of the local state
M06 simulation stood_still a linearizable read under a lease
M07 zkdoor behind_a_sync sync does not ask a majority
M07 process roost-zk:register:stale sync does not ask a majority
M09 cluster who_came_by_a_snapshot who installs a snapshot keeps the members that it knew
M11 simulation no_seed snapshots leave out sessions
M13 lib storage:: checksums of the log are not checked
M14 lib storage:: after a failed commit the log goes on
M15 simulation no_seed nodes apply something of their own
M16 lib storage:: a failed commit is reported as done
M17 simulation no_seed a node that does not lead expires sessions
M17 process roost:lock:lead a node that does not lead expires sessions
M19 simulation no_seed a new leader trusts the deadlines it has
M20 simulation outlives what a deposed leader decided about sessions counts
M21 zkdoor heard_of requests do not keep a session alive
M22 simulation no_seed an ephemeral survives its session
M23 zkdoor sessions:: who comes back gets another session
M24 simulation wall_clock the wall clock decides
M25 lib watch::model_test a subscriber that is too slow misses something
M26 simulation no_seed an event is told twice
M27 simulation no_seed who resumes is told what he has heard
M27 process roost:watch:stale who resumes is told what he has heard
M28 simulation no_seed deletions are not told
M30 zkdoor watches:: who comes back is not told what he missed
M31 lib watch::model_test the bookmark runs ahead of the events
M32 simulation no_seed half of a multi that fails stays
M33 model - sequence numbers are counts of children
M34 model - the version is not checked when it counts
M35 simulation no_seed what is sent again is done again
M36 zkdoor has_seen_more a client that has seen more than the node is let in
M38 simulation unseat no vote before the vote
M39 jepsen ap::careful newer than what anybody has said, not than this instance
M40 jepsen ap::careful removals are forgotten
M41 zkdoor pacing:: a held event is told after the reply that shows the state
'

target="${CARGO_TARGET_DIR:-target}"
log=$(mktemp)
build() {
    cargo test "$@" --no-run 2>&1 | tee -a "$log" | grep -v '^ *Executable' >&2
    [ "${PIPESTATUS[0]}" = 0 ] || exit 1
}
wanted=" $* "
rows=$(awk -v wanted="$wanted" -v all=$# 'NF && (all == 0 || index(wanted, " " $1 " "))' <<<"$mutants")
[ -n "$rows" ] || { echo "mutants: none is named $*" >&2; exit 1; }
has() { awk '{ print $2 }' <<<"$rows" | grep -qx "$1"; }
products=()
for test in simulation model zkdoor powercut cluster; do
    has $test && products+=(--test "$test")
done
has lib && products+=(--lib)
# With any test beside a package its programs are built, out of the same parts.
if has process && ! has cluster; then products+=(--test cluster); fi
[ ${#products[@]} = 0 ] || build --features mutants "${products[@]}"
! has process || build -p roost-jepsen --test compare
! has jepsen || build -p roost-jepsen --features mutants --lib
programs=$(mktemp -d)
trap 'rm -rf "$log" "$log.run" "$programs"' EXIT
if has process; then
    # Away from where the program without bugs belongs.
    cp "$target/debug/roost-jepsen" "$programs" && mv "$target/debug/roost" "$programs" || exit 1
fi

# `Executable tests/model.rs (target/debug/deps/model-0123456789abcdef)`
program() {
    case $1 in
    lib) pattern='unittests src/lib.rs .*/roost-' ;;
    jepsen) pattern='unittests src/lib.rs .*/roost_jepsen-' ;;
    *) pattern="/$1-" ;;
    esac
    sed -n 's/^ *Executable //p' "$log" | grep -E "$pattern" | sed 's/.*(\(.*\))/\1/' | tail -1
}

# Runs the program itself with a bug, or with none. Says which promise was broken.
try_process() {
    local target workload schedule code
    IFS=: read -r target workload schedule <<<"$2"
    ROOST_MUTANT="$1" timeout 300 "$programs/roost-jepsen" run --target "$target" --workload "$workload" --timeout 2s \
        --schedule "scripts/schedules/$schedule.txt" --out "$programs/out" >"$log.run" 2>&1
    code=$?
    [ $code -ge 124 ] && { echo "hang"; return 2; }
    [ $code = 0 ] && { echo "nothing is found"; return 0; }
    grep -q ': Violated' "$log.run" || { echo "nothing is broken: $(tail -1 "$log.run")"; return 2; }
    sed -n 's/^  \(.*\): Violated.*/\1/p' "$log.run" | paste -sd ','
    return 1
}

# Runs some tests with a bug, or with none. Says how it went: found, or not.
try() {
    [ "$2" = process ] && { try_process "$1" "$3"; return; }
    local bug=$1 binary filter=$3 found
    # Cargo says it as seen from here, and some run elsewhere.
    binary=$(realpath --quiet "$(program "$2")")
    [ -x "$binary" ] || { echo "no program for $2 in $target"; return 2; }
    [ "$filter" = - ] && filter=''
    [ "$2" = jepsen ] && cd jepsen-like
    # shellcheck disable=SC2086
    ROOST_MUTANT="$bug" RUST_MIN_STACK=8388608 timeout 600 "$binary" $filter >"$log.run" 2>&1
    local code=$?
    [ "$2" = jepsen ] && cd ..
    grep -q '^running 0 tests' "$log.run" && { echo "no tests are named $filter"; return 2; }
    [ $code = 124 ] && { echo "hang"; return 2; }
    [ $code = 0 ] && { echo "nothing is found"; return 0; }
    found=$(sed -n 's/^test \(.*\) \.\.\. FAILED/\1/p; s/^seed \([0-9]*\):.*/seed \1/p' "$log.run" | paste -sd ' ')
    [ -n "$found" ] || { echo "it fails without a name"; return 2; }
    echo "$found"
    return 1
}

table='' failed=0
while read -r bug binary filter what; do
    began=$EPOCHREALTIME
    by=$(try "$bug" "$binary" "$filter")
    outcome=$?
    took=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $began }")
    [ $outcome = 1 ] || failed=1
    row="| $bug | $what | \`$binary\`: $by | $took |"
    echo "$row"
    table+="$row"$'\n'
done <<<"$rows"

# The same tests, without a bug: what fails anyway finds nothing.
while read -r binary filter; do
    [ -n "$binary" ] || continue
    by=$(try none "$binary" "$filter")
    [ $? = 0 ] || { echo "without a bug $binary $filter fails too: $by"; failed=1; }
done < <(awk '{ print $2, $3 }' <<<"$rows" | sort -u)

printf '\n| bug | what | found by | s |\n|---|---|---|---|\n%s' "$table"
[ $failed = 0 ] && echo "every bug was found"
exit $failed

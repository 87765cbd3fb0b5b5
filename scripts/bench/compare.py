#!/usr/bin/env python3
"""ZooKeeper and roost under the same load, one after the other, on this machine. See scripts/bench-zk.sh.

Each has three servers with their defaults, on one disk, and acknowledges a write when it is durable on a majority.
Prints a table, and writes all figures as JSON. CPU is that of the three servers together, per request, user and
system, from the kernel's accounting; the resident memory is the mean of the three.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ENSEMBLE = HERE.parent / "clients/ensemble.py"
START_S = 120
# After the last znode, so that what is only garbage by now can be collected.
SETTLE_S = 5


def only_served(figures):
    """Returns the figures of a load, and gives up if any of its requests was refused: a refusal is no work done."""
    if figures["refused"]:
        raise SystemExit(f"bench: {figures['refused']} requests were refused: {figures}")
    return figures


class Running:
    """One ensemble, for as long as the block lasts."""

    def __init__(self, kind, binary, parent):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"bench-{kind}-", dir=parent))
        self.command = [sys.executable, str(ENSEMBLE), kind, "--defaults", "--binary", binary, "--dir", str(self.dir)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE)
        ends = time.monotonic() + START_S
        while not (self.dir / "env").exists():
            if self.process.poll() is not None or time.monotonic() > ends:
                self.__exit__()
                raise SystemExit("bench: the servers do not start")
            time.sleep(0.1)
        lines = (self.dir / "env").read_text().splitlines()
        self.env = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        self.pids = [int(pid) for pid in (self.dir / "pids").read_text().split()]
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.dir)

    def cpu_s(self):
        """Returns the CPU seconds that the servers have used since their start."""
        total = 0
        for pid in self.pids:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def resident_mib(self):
        kib = []
        for pid in self.pids:
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    kib.append(int(line.split()[1]))
        return sum(kib) / len(kib) / 1024

    def load(self, program, *words):
        before = self.cpu_s()
        text = subprocess.run(
            [program, *map(str, words)], env=self.env, stdout=subprocess.PIPE, check=True, text=True
        ).stdout
        figures = only_served(json.loads(text))
        figures["servers_cpu_us"] = (self.cpu_s() - before) * 1e6 / figures["ops"]
        return figures

    def memory(self, program, znodes, sessions):
        with subprocess.Popen(
            [program, "fill", str(znodes), str(sessions)],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as filling:
            figures = only_served(json.loads(filling.stdout.readline()))
            time.sleep(SETTLE_S)
            figures["resident_mib"] = self.resident_mib()
            filling.stdin.close()
        return figures


def measure(kind, args):
    """Returns all figures of one kind of server."""
    with Running(kind, args.binary, args.dir) as running:
        shape = (args.connections, args.outstanding)
        # So that the JVM has compiled what matters, and files have their first size.
        running.load(args.load, "set", *shape, args.warm_up)
        running.load(args.load, "get", *shape, args.warm_up)
        figures = {
            "write": running.load(args.load, "set", *shape, args.seconds),
            "read": running.load(args.load, "get", *shape, args.seconds),
        }
    with Running(kind, args.binary, args.dir) as running:
        figures["memory"] = running.memory(args.load, args.znodes, args.sessions)
    return figures


def show(rounds):
    heads = ("per s", "slowest s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "server CPU µs", "client CPU µs")
    widths = (9, 9, 8, 8, 8, 8, 13, 13)
    print(f"{'':10} {'load':6}", *(f"{head:>{width}}" for head, width in zip(heads, widths)))
    for number, results in enumerate(rounds, 1):
        for kind, figures in results.items():
            for load in ("write", "read"):
                f = figures[load]
                print(
                    f"{kind:10} {load:6} {f['per_second']:9,.0f} {f['slowest_second']:9,} {f['p50_ms']:8.1f} "
                    f"{f['p99_ms']:8.1f} {f['p999_ms']:8.1f} {f['max_ms']:8.1f} {f['servers_cpu_us']:13.1f} "
                    f"{f['client_cpu_us']:13.1f}"
                )
            print(f"{kind:10} memory {figures['memory']['resident_mib']:,.0f} MiB")
        if len(results) == 2:
            ours, theirs = results["roost"], results["zookeeper"]
            write = ours["write"]["per_second"] / theirs["write"]["per_second"]
            read = ours["read"]["per_second"] / theirs["read"]["per_second"]
            memory = ours["memory"]["resident_mib"] / theirs["memory"]["resident_mib"]
            print(f"round {number}: writes {write:.2f} ×, reads {read:.2f} ×, memory {memory:.2f} ×")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", required=True, help="the program made from load.c")
    parser.add_argument("--binary", required=True, help="roost")
    parser.add_argument("--dir", help="where the servers' files go: its disk is what is measured")
    parser.add_argument("--json", default="bench-zk.json")
    parser.add_argument("--only", choices=["zookeeper", "roost"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--outstanding", type=int, default=256, help="requests under way, over all connections")
    parser.add_argument("--warm-up", type=int, default=10, help="seconds of each load")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--znodes", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=1_000)
    args = parser.parse_args()
    kinds = [args.only] if args.only else ["zookeeper", "roost"]
    rounds = [{kind: measure(kind, args) for kind in kinds} for _ in range(args.rounds)]
    pathlib.Path(args.json).write_text(json.dumps({"arguments": vars(args), "rounds": rounds}, indent=2) + "\n")
    show(rounds)


if __name__ == "__main__":
    main()

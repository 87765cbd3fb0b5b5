#!/usr/bin/env python3
"""ZooKeeper's own zkCli.sh, unmodified, told what commands.txt says; its answers are compared with expected.txt.

The expected answers are those of Apache ZooKeeper: `zkcli.py --record` writes them anew, which is for an ensemble of
that. Zxids, times, sessions and ports are replaced by names before the comparison; a zxid that stands in several
places has one name in all of them. What a client is told of its watches stands at the end of its answers.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

ZKCLI = "/usr/share/zookeeper/bin/zkCli.sh"
HERE = pathlib.Path(__file__).resolve().parent
ADDRESSES = os.environ["ROOST_ZK"].split(",")
# Each client speaks to a server of its own.
CLIENTS = {"a": ADDRESSES[0], "b": ADDRESSES[1]}
# A command that answers one line, and so ends the answer of the one before it.
MARK, MARK_ANSWER = "version", "ZooKeeper CLI version"
PATIENCE_S = 60
NOISE = ("SLF4J:", "Connecting to", "Welcome to", "JLine support", "log4j:")
TIME = re.compile(r"^([cm]time = ).*$")
ZXID = re.compile(r"^([cmp]Zxid = )(0x[0-9a-f]+)$")
OWNER = re.compile(r"^(ephemeralOwner = )(0x[0-9a-f]+)$")
MEMBER = re.compile(r"^(server\.\d+)=[^;]*:(participant|observer);(\S+)$")


class Cli:
    """One zkCli.sh, driven through its standard input."""

    def __init__(self, address):
        env = dict(os.environ, ZOO_LOG_DIR="/nonexistent", CLIENT_JVMFLAGS="-Xmx128m -XX:TieredStopAtLevel=1")
        self.process = subprocess.Popen(
            [ZKCLI, "-timeout", "30000", "-server", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            env=env,
            start_new_session=True,
        )
        # The script starts a JVM of its own, which has to go with it.
        self.timer = threading.Timer(PATIENCE_S, os.killpg, (self.process.pid, signal.SIGKILL))
        self.timer.daemon = True
        self.timer.start()
        self.events = []

    def tell(self, command):
        """Returns the lines that a command prints."""
        if command == "quit":
            self.end()
            return []
        self.process.stdin.write(f"{command}\n{MARK}\n")
        lines = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line.startswith(MARK_ANSWER):
                return lines
            if line.startswith("WatchedEvent "):
                self.events.append(line)
            elif line and line != "WATCHER::" and not line.startswith(NOISE):
                lines.append(line)
        raise SystemExit(f"zkcli: ended, or gave no answer in {PATIENCE_S} s, at `{command}`: {lines}")

    def end(self):
        """Ends it in good order, and so its session."""
        self.process.stdin.write("quit\n")
        self.process.stdin.close()
        for line in self.process.stdout:
            if line.startswith("WatchedEvent "):
                self.events.append(line.rstrip("\n"))
        self.process.wait()
        self.timer.cancel()


class Names:
    """Gives names to what differs from run to run."""

    def __init__(self):
        self.zxids = {}

    def normal(self, line):
        if found := ZXID.match(line):
            name = self.zxids.setdefault(found[2], f"<zxid {len(self.zxids) + 1}>")
            return found[1] + name
        if found := OWNER.match(line):
            return found[1] + ("0x0" if found[2] == "0x0" else "<session>")
        if found := MEMBER.match(line):
            # ZooKeeper shows an address that is given without a host as 0.0.0.0; here it must be the true one.
            client = f"<client {ADDRESSES.index(found[3]) + 1}>" if found[3] in ADDRESSES else found[3]
            return f"{found[1]}=<peers>:{found[2]};{client}"
        line = TIME.sub(r"\1<time>", line)
        line = re.sub(r"^version=[0-9a-f]+$", "version=<version>", line)
        for number, address in enumerate(ADDRESSES, 1):
            line = line.replace(address, f"<client {number}>")
        if found := re.match(r"^[0-9a-f]+ (<client.*)$", line):
            return "<version> " + ",".join(sorted(found[1].split(",")))
        # The order of a list of names is the server's own affair.
        if found := re.match(r"^\[(.*)\]$", line):
            line = "[" + ", ".join(sorted(found[1].split(", "))) + "]"
        return line


def blocks(lines):
    """Yields each command with the lines of its answer."""
    block = None
    for line in lines:
        if re.match(r"^\w+> ", line) or line.startswith("told "):
            if block:
                yield block
            block = (line, [])
        elif block and line and not line.startswith("#"):
            block[1].append(line)
    if block:
        yield block


def run(script):
    """Returns the script with the answers in it."""
    clients = {name: Cli(address) for name, address in CLIENTS.items()}
    names = Names()
    written = []
    for line in script:
        written.append(line)
        if not line or line.startswith("#"):
            continue
        name, command = line.split("> ", 1)
        answer = clients[name].tell(command)
        if answer and answer[0].startswith("ZooKeeper -server"):
            # The usage is the tool's own and long; the last line says what it is about.
            answer = answer[-1:]
        if answer and answer[0].startswith("Auth scheme:"):
            answer[1:] = sorted(answer[1:])
        written += [names.normal(line) for line in answer]
    for name, client in clients.items():
        written += ["", f"told {name}:"] + client.events
    return written


def main():
    script = (HERE / "commands.txt").read_text().splitlines()
    got = run(script)
    expected_file = HERE / "expected.txt"
    if sys.argv[1:] == ["--record"]:
        expected_file.write_text("\n".join(got) + "\n")
        return
    expected = expected_file.read_text().splitlines()
    passed = failed = 0
    for (command, answer), (_, wanted) in zip(blocks(got), blocks(expected), strict=True):
        if answer == wanted:
            passed += 1
            continue
        failed += 1
        print(f"FAILED {command}")
        print("".join(f"    expected: {line}\n" for line in wanted), end="")
        print("".join(f"    got:      {line}\n" for line in answer), end="")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

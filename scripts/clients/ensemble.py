#!/usr/bin/env python3
"""Three servers on this machine, and a way for tests in any language to kill and start them.

    ensemble.py roost --binary target/debug/roost --dir DIR
    ensemble.py zookeeper --dir DIR

Starts the servers on free ports of 127.0.0.1 with all their files below DIR, waits until they serve, writes
DIR/env with the variables that the suites read, and then answers requests on a control port until it gets a
SIGTERM or its stdin ends. The servers end with it, even if it is killed with -9.

    ROOST_ZK       client addresses, joined by commas; server N is the Nth of them
    ROOST_HTTP     addresses of the HTTP doors; empty for ZooKeeper, which has none
    ROOST_AGAINST  roost or zookeeper
    ROOST_SUPER    name and password, joined by a colon, of the super user
    ROOST_SPARE    the line of server 4, which is configured but neither started nor a member
    ROOST_CONTROL  address of the control port

Control: `POST /kill?server=N` (with -9; answers when the process is gone), `/spawn` (starts it), `/start` (starts it
and answers when it serves), `/pause` and `/resume` (SIGSTOP, SIGCONT), `GET /leader` (its number, 0 when there is
none). DIR/pids holds the process ids that the servers have at first.

With --defaults ZooKeeper has the times and the JVM that it comes with, as benchmarks want them: else times are short
and the JVMs small. roost always has its defaults.
"""

import argparse
import base64
import ctypes
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import random
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

HOST = "127.0.0.1"
SERVERS = (1, 2, 3)
# Not a member until somebody asks for it.
SPARE = 4
SUPER = "super:sesame"
# How long a server may take to serve. Not what it takes: that is a second or two.
SERVE_S = 60
CLIENT_PORTS_BELOW = 30_000
PR_SET_PDEATHSIG = 1


def free_ports(count):
    """Returns ports that nobody uses, below those that the system gives to outgoing connections: a server that
    was killed finds its port again."""
    found = []
    while len(found) < count:
        port = random.randrange(12_000, CLIENT_PORTS_BELOW)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def digest_id(name_and_password):
    """Returns the id of ZooKeeper's scheme `digest`: the name and a hash of both."""
    hashed = base64.b64encode(hashlib.sha1(name_and_password.encode()).digest()).decode()
    return name_and_password.split(":")[0] + ":" + hashed


def four_letters(port, word):
    """Returns what the server answers to a four-letter word."""
    with socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(word.encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def die_with_parent():
    """Lets the kernel kill this child when its parent is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Ensemble:
    """The processes. Subclasses know how to configure and to ask one kind of server."""

    def __init__(self, directory, defaults):
        self.defaults = defaults
        self.dir = pathlib.Path(directory).resolve()
        self.processes = {}
        numbers = (*SERVERS, SPARE)
        ports = free_ports(3 * len(numbers))
        self.client_ports = dict(zip(numbers, ports[0::3]))
        self.second_ports = dict(zip(numbers, ports[1::3]))
        self.third_ports = dict(zip(numbers, ports[2::3]))

    def home(self, server):
        return self.dir / str(server)

    def spawn(self, server):
        log = open(self.home(server) / "log", "ab")
        with log:
            self.processes[server] = subprocess.Popen(
                self.command(server),
                cwd=self.home(server),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def wait_until_serving(self, server):
        ends = time.monotonic() + SERVE_S
        while not self.is_serving(server):
            process = self.processes[server]
            if process.poll() is not None:
                raise RuntimeError(f"server {server} ended with {process.returncode}: {self.home(server)}/log")
            if time.monotonic() > ends:
                raise RuntimeError(f"server {server} does not serve after {SERVE_S} s: {self.home(server)}/log")
            time.sleep(0.05)

    def start_all(self):
        for server in (*SERVERS, SPARE):
            self.home(server).mkdir(parents=True)
            self.configure(server)
        for server in SERVERS:
            self.spawn(server)
        self.unite()
        for server in SERVERS:
            self.wait_until_serving(server)

    def respawn(self, server):
        if server not in self.processes or self.processes[server].poll() is not None:
            self.spawn(server)

    def start(self, server):
        self.respawn(server)
        self.wait_until_serving(server)

    def kill(self, server):
        self.processes[server].kill()
        self.processes[server].wait()

    def pause(self, server):
        process = self.processes[server]
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            # Its threads stop one by one: only when the last has stopped does it answer nothing more.
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    def resume(self, server):
        if self.processes[server].poll() is None:
            self.processes[server].send_signal(signal.SIGCONT)

    def stop_all(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()

    def unite(self):
        """Makes one ensemble of the servers, where that is a step of its own."""

    def http_addresses(self):
        return ""


class ZooKeeper(Ensemble):
    """Debian's Apache ZooKeeper."""

    kind = "zookeeper"
    short_times = ("tickTime=500", "initLimit=40", "syncLimit=20", "maxSessionTimeout=60000")
    small_jvm = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

    def configure(self, server):
        home = self.home(server)
        (home / "data").mkdir()
        (home / "data/myid").write_text(f"{server}\n")
        members = [self.line(n) for n in sorted({*SERVERS, server})]
        (home / "zoo.cfg.dynamic").write_text("\n".join(members) + "\n")
        lines = [
            # There is no default of these; the values are those of the example that ZooKeeper comes with.
            *(("tickTime=2000", "initLimit=10", "syncLimit=5") if self.defaults else self.short_times),
            # Loads come from one address here.
            "maxClientCnxns=0",
            "admin.enableServer=false",
            "standaloneEnabled=false",
            "reconfigEnabled=true",
            "4lw.commands.whitelist=*",
            f"dataDir={home}/data",
            f"dynamicConfigFile={home}/zoo.cfg.dynamic",
            "",
        ]
        (home / "zoo.cfg").write_text("\n".join(lines))

    def line(self, server):
        second, third = self.second_ports[server], self.third_ports[server]
        return f"server.{server}={HOST}:{second}:{third};{HOST}:{self.client_ports[server]}"

    def command(self, server):
        return [
            "java",
            *(() if self.defaults else self.small_jvm),
            "-Dzookeeper.extendedTypesEnabled=true",
            "-Dznode.container.checkIntervalMs=1000",
            f"-Dzookeeper.DigestAuthenticationProvider.superDigest={digest_id(SUPER)}",
            "-Dzookeeper.enforceQuota=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self.home(server) / "zoo.cfg"),
        ]

    def mode(self, server):
        try:
            answer = four_letters(self.client_ports[server], "srvr")
        except OSError:
            return None
        modes = [line.removeprefix("Mode: ") for line in answer.splitlines() if line.startswith("Mode: ")]
        return modes[0] if modes else None

    def is_serving(self, server):
        return self.mode(server) is not None

    def leader(self):
        return next((server for server in SERVERS if self.mode(server) == "leader"), 0)


class Roost(Ensemble):
    """This project's own server."""

    kind = "roost"

    def __init__(self, directory, defaults, binary):
        super().__init__(directory, defaults)
        self.binary = pathlib.Path(binary).resolve()
        self.secret = secrets.token_hex(16)

    def configure(self, server):
        home = self.home(server)
        lines = [
            "[node]",
            f"id = {server}",
            f'data_dir = "{home}/data"',
            "[http]",
            f'listen = "{HOST}:{self.second_ports[server]}"',
            "[peer]",
            f'listen = "{HOST}:{self.third_ports[server]}"',
            "[cluster]",
            f'secret = "{self.secret}"',
            "[zk]",
            f'listen = "{HOST}:{self.client_ports[server]}"',
            'words = ["*"]',
            "reconfig = true",
            "[access]",
            f'super_digest = "{digest_id(SUPER)}"',
            "",
        ]
        (home / "node.toml").write_text("\n".join(lines))

    def line(self, server):
        peer, http_port = self.third_ports[server], self.second_ports[server]
        return f"server.{server}={HOST}:{peer}:{http_port};{HOST}:{self.client_ports[server]}"

    def command(self, server):
        return [str(self.binary), "serve", "--config", str(self.home(server) / "node.toml")]

    def ask(self, server, method, path, body=None):
        """Returns status and JSON of an answer, or None when there is none."""
        connection = http.client.HTTPConnection(HOST, self.second_ports[server], timeout=10)
        try:
            connection.request(method, path, body and json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def unite(self):
        ends = time.monotonic() + SERVE_S
        while any(self.ask(server, "GET", "/healthz") is None for server in SERVERS):
            if time.monotonic() > ends or any(p.poll() is not None for p in self.processes.values()):
                raise RuntimeError(f"a node does not start: see {self.dir}/*/log")
            time.sleep(0.05)
        members = [
            {
                "node": n,
                "peer_addr": f"{HOST}:{self.third_ports[n]}",
                "http_addr": f"{HOST}:{self.second_ports[n]}",
                "zk_addr": f"{HOST}:{self.client_ports[n]}",
            }
            for n in SERVERS
        ]
        answer = self.ask(1, "POST", "/v1/cluster/init", {"members": members})
        if answer is None or answer[0] != 200:
            raise RuntimeError(f"init: {answer}")

    def is_serving(self, server):
        answer = self.ask(server, "GET", "/readyz")
        return answer is not None and answer[0] == 200

    def leader(self):
        for server in SERVERS:
            if self.processes[server].poll() is None and self.is_serving(server):
                answer = self.ask(server, "GET", "/v1/cluster")
                if answer is not None and answer[0] == 200:
                    return answer[1]["leader"] or 0
        return 0

    def http_addresses(self):
        return ",".join(f"{HOST}:{self.second_ports[n]}" for n in SERVERS)


def control(ensemble):
    """Returns the class that answers on the control port."""

    class Control(http.server.BaseHTTPRequestHandler):
        def answer(self, status, text):
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def server_number(self):
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            return int(query["server"][0])

        def attempt(self, verbs):
            verb = verbs.get(urllib.parse.urlsplit(self.path).path)
            if verb is None:
                return self.answer(404, "no such request")
            try:
                result = verb()
                self.answer(200, "done" if result is None else result)
            except (RuntimeError, KeyError, ValueError) as error:
                self.answer(500, error)

        def do_GET(self):
            self.attempt({"/leader": ensemble.leader})

        def do_POST(self):
            self.attempt(
                {
                    "/kill": lambda: ensemble.kill(self.server_number()),
                    "/spawn": lambda: ensemble.respawn(self.server_number()),
                    "/start": lambda: ensemble.start(self.server_number()),
                    "/pause": lambda: ensemble.pause(self.server_number()),
                    "/resume": lambda: ensemble.resume(self.server_number()),
                }
            )

        def log_message(self, *_):
            pass

    return Control


def write_env(ensemble, port):
    variables = {
        "ROOST_ZK": ",".join(f"{HOST}:{ensemble.client_ports[n]}" for n in SERVERS),
        "ROOST_HTTP": ensemble.http_addresses(),
        "ROOST_AGAINST": ensemble.kind,
        "ROOST_SUPER": SUPER,
        "ROOST_SPARE": ensemble.line(SPARE),
        "ROOST_CONTROL": f"{HOST}:{port}",
    }
    pids = " ".join(str(process.pid) for process in ensemble.processes.values())
    (ensemble.dir / "pids").write_text(pids + "\n")
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    part = ensemble.dir / "env.part"
    part.write_text(text)
    part.rename(ensemble.dir / "env")


def end_with_stdin():
    """Ends this process at the end of its stdin, so that it does not outlive whoever started it."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["roost", "zookeeper"])
    parser.add_argument("--binary", default="target/debug/roost")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--defaults", action="store_true")
    args = parser.parse_args()
    if args.kind == "roost":
        ensemble = Roost(args.dir, args.defaults, args.binary)
    else:
        ensemble = ZooKeeper(args.dir, args.defaults)
    # Children die with the thread that started them: all are started by this one, which also serves.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=end_with_stdin, daemon=True).start()
    try:
        ensemble.start_all()
        with http.server.HTTPServer((HOST, 0), control(ensemble)) as server:
            write_env(ensemble, server.server_port)
            server.serve_forever()
    except (RuntimeError, OSError) as error:
        sys.exit(f"ensemble: {error}")
    finally:
        ensemble.stop_all()


if __name__ == "__main__":
    main()

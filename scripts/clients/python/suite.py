"""What the Python suites share: the ensemble under test, clients of it, waiting for conditions, and counting."""

import http.client
import logging
import os
import socket
import sys
import time
import unittest
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError, NotEmptyError

ADDRESSES = os.environ["ROOST_ZK"].split(",")
HTTP_ADDRESSES = [address for address in os.environ.get("ROOST_HTTP", "").split(",") if address]
AGAINST = os.environ["ROOST_AGAINST"]
SUPER = os.environ["ROOST_SUPER"]
# The line of a server, number 4, that is no member yet.
SPARE = os.environ["ROOST_SPARE"]
# How long anything may take before a test calls it lost. Nothing is expected to take this long.
PATIENCE_S = 30

# The connection that a test cuts is not news.
logging.getLogger("kazoo").setLevel(logging.CRITICAL)


def wait_for(condition, what):
    """Waits until the condition holds, and returns its value. What a killed server refuses is tried again."""
    ends = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.01)
    return value


def control(method, request):
    """Asks whoever runs the servers to kill or start one, or who leads."""
    connection = http.client.HTTPConnection(os.environ["ROOST_CONTROL"], timeout=90)
    try:
        connection.request(method, request)
        answer = connection.getresponse()
        text = answer.read().decode().strip()
    finally:
        connection.close()
    if answer.status != 200:
        raise AssertionError(f"{request}: {text}")
    return text


def kill(server):
    control("POST", f"/kill?server={server}")


def start(*servers):
    """Starts servers, all of them before it waits until each serves: one alone may not."""
    for server in servers:
        control("POST", f"/spawn?server={server}")
    for server in servers:
        control("POST", f"/start?server={server}")


def leader():
    return wait_for(lambda: int(control("GET", "/leader")), "a leader")


def four_letters(address, word):
    """Returns what a server answers to these bytes, as text."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(word.encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def server_of(client):
    """Returns the number of the server that a client is connected to, found by the address of its socket."""
    port = client._connection._socket.getpeername()[1]
    return next(n for n, address in enumerate(ADDRESSES, 1) if address.endswith(f":{port}"))


def delete_below(client, path):
    """Deletes a znode and all below it, many at a time."""
    names = client.get_children(path)
    under_way = [(f"{path}/{name}", client.delete_async(f"{path}/{name}")) for name in names]
    for child, deleted in under_way:
        deleted.wait(PATIENCE_S)
        if isinstance(deleted.exception, NotEmptyError):
            delete_below(client, child)
        elif not isinstance(deleted.exception, NoNodeError):
            deleted.get()
    client.delete(path)


class EnsembleTest(unittest.TestCase):
    """A test with clients whose paths are below a root of its own."""

    def setUp(self):
        self.root = f"/test-{uuid.uuid4().hex[:12]}"
        self.clients = []
        self.addCleanup(self.clean_up)
        plain = self.connect(chroot="")
        plain.ensure_path(self.root)

    def clean_up(self):
        for client in self.clients:
            client.stop()
            client.close()
        cleaner = KazooClient(",".join(ADDRESSES), auth_data=[("digest", SUPER)])
        cleaner.start(PATIENCE_S)
        delete_below(cleaner, self.root)
        cleaner.stop()
        cleaner.close()

    def connect(self, servers=None, chroot=None, **options):
        """Returns a started client of some servers, by number, whose root is this test's."""
        addresses = ADDRESSES if servers is None else [ADDRESSES[n - 1] for n in servers]
        hosts = ",".join(addresses) + (self.root if chroot is None else chroot)
        client = KazooClient(hosts, **{"timeout": 6.0, **options})
        self.clients.append(client)
        client.start(PATIENCE_S)
        return client


class Counted(unittest.TextTestResult):
    """A result that prints one line per test and counts what passed."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.passed = 0

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def line(self, verdict, test):
        name = test._testMethodName.removeprefix("test_").replace("_", " ")
        self.stream.writeln(f"{verdict} {name} ({time.monotonic() - self.began:.1f} s)")
        self.stream.flush()

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1
        self.line("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line("FAILED", test)

    def addError(self, test, err):
        super().addError(test, err)
        self.line("FAILED", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line(f"skipped ({reason})", test)


def main():
    """Runs the tests of the calling module and ends the process. The last line is `N passed, N failed`."""
    module, loader = sys.modules["__main__"], unittest.defaultTestLoader
    names = sys.argv[1:]
    tests = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    runner = unittest.TextTestRunner(stream=sys.stdout, resultclass=Counted, verbosity=0)
    result = runner.run(tests)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed", flush=True)
    # A recipe of kazoo may leave a thread behind that waits for ever.
    os._exit(1 if failed or not result.passed else 0)

"""Dubbo's layout end to end: providers register through a ZooKeeper client, consumers follow them.

A provider is an ephemeral whose name is its whole URL, percent-encoded, below /dubbo/<interface>/providers. Against
roost the consumers follow over HTTP, as a program without a ZooKeeper client would; against ZooKeeper, which has no
such door, they follow through kazoo, which shows that the rest of the script is right.
"""

import http.client
import json
import queue
import signal
import subprocess
import sys
import threading
import urllib.parse

from kazoo.recipe.watchers import ChildrenWatch

from suite import (
    ADDRESSES,
    AGAINST,
    HTTP_ADDRESSES,
    EnsembleTest,
    control,
    kill,
    main,
    start,
    unittest,
    wait_for,
)

INTERFACE = "org.apache.dubbo.demo.DemoService"
PROVIDER = """
import sys, time
from kazoo.client import KazooClient
client = KazooClient(sys.argv[1], timeout=4.0)
client.start()
for path in sys.argv[2:]:
    client.create(path, b"", ephemeral=True, makepath=True)
print("registered", flush=True)
time.sleep(600)
"""


def provider_url(port):
    """Returns the URL that Dubbo registers for a provider of the interface."""
    query = {
        "anyhost": "true",
        "application": "demo-provider",
        "dubbo": "2.0.2",
        "interface": INTERFACE,
        "methods": "sayHello,sayHelloAsync",
        "pid": "4711",
        "release": "3.2.0",
        "side": "provider",
        "timestamp": "1700000000000",
    }
    return f"dubbo://10.0.0.1:{port}/{INTERFACE}?" + urllib.parse.urlencode(query, safe=",")


def znode_name(url):
    return urllib.parse.quote(url, safe="")


class HttpConsumer:
    """Follows the names of a znode's children over the HTTP door's event stream."""

    def __init__(self, address, path):
        self.providers = set()
        self.last_id = None
        self.lists = []
        self.path = path
        self.addresses = queue.SimpleQueue()
        self.addresses.put(address)
        self.closed = False
        self.connection = None
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        while not self.closed:
            address = self.addresses.get()
            # When a stream ends it goes on with another node, from the last zxid that it has seen.
            after = HTTP_ADDRESSES[(HTTP_ADDRESSES.index(address) + 1) % len(HTTP_ADDRESSES)]
            try:
                self.read(address)
            except (OSError, http.client.HTTPException, AttributeError):
                pass
            self.addresses.put(after)

    def read(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=30)
        watch = urllib.parse.quote(f"children:{self.path}", safe="")
        headers = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        self.connection.request("GET", f"/v1/watch?watch={watch}", headers=headers)
        answer = self.connection.getresponse()
        if answer.status != 200:
            raise http.client.HTTPException(answer.read())
        event, data, number = "", "", None
        while line := answer.readline():
            line = line.decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                data = value
            elif name == "id":
                number = value
            elif not line:
                if event in ("snapshot", "change"):
                    self.take(event, json.loads(data))
                self.last_id = number or self.last_id
                event, data, number = "", "", None

    def take(self, event, message):
        if event == "snapshot":
            watched = message["watches"][0]
            self.providers = {self.name(znode) for znode in watched.get("znodes", [])}
        else:
            for change in message["changes"]:
                if change["path"] == self.path:
                    continue
                if change["kind"] == "created":
                    self.providers = self.providers | {self.name(change)}
                elif change["kind"] == "deleted":
                    self.providers = self.providers - {self.name(change)}
        self.lists.append(self.providers)

    def name(self, znode):
        return urllib.parse.unquote(znode["path"].rsplit("/", 1)[1])

    def close(self):
        self.closed = True
        if self.connection and self.connection.sock:
            self.connection.sock.close()


class KazooConsumer:
    """Follows the same through a ZooKeeper client, as Dubbo itself does."""

    def __init__(self, client, path):
        self.providers = set()
        ChildrenWatch(client, path, self.take)

    def take(self, names):
        self.providers = {urllib.parse.unquote(name) for name in names}

    def close(self):
        pass


class Dubbo(EnsembleTest):
    def setUp(self):
        super().setUp()
        self.path = f"{self.root}/dubbo/{INTERFACE}/providers"
        self.registrar = self.connect(chroot="")
        self.registrar.ensure_path(self.path)

    def clean_up(self):
        start(1, 2, 3)
        super().clean_up()

    def consumers(self):
        """Returns one consumer of every kind that the ensemble has a door for."""
        found = [KazooConsumer(self.connect(servers=[2], chroot=""), self.path)]
        if AGAINST == "roost":
            found += [HttpConsumer(address, self.path) for address in HTTP_ADDRESSES]
        for consumer in found:
            self.addCleanup(consumer.close)
        return found

    def register(self, client, port):
        name = znode_name(provider_url(port))
        client.create(f"{self.path}/{name}", b"", ephemeral=True)

    def await_providers(self, consumers, ports, what):
        expected = {provider_url(port) for port in ports}
        for consumer in consumers:
            wait_for(lambda: consumer.providers == expected, what)

    def test_consumers_see_providers_come_and_go(self):
        consumers = self.consumers()
        first, second = self.connect(chroot=""), self.connect(chroot="")
        self.register(first, 20880)
        self.await_providers(consumers, [20880], "the first provider")
        self.register(second, 20881)
        self.await_providers(consumers, [20880, 20881], "the second provider")
        first.stop()
        self.await_providers(consumers, [20881], "that the first has gone")

    def test_a_provider_that_is_killed_goes_with_its_session_and_all_its_interfaces_at_once(self):
        consumers = self.consumers()
        paths = [f"{self.path}/{znode_name(provider_url(port))}" for port in (20880, 20881, 20882)]
        program = [sys.executable, "-c", PROVIDER, ADDRESSES[0], *paths]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as provider:
            self.assertEqual(provider.stdout.readline(), "registered\n")
            self.await_providers(consumers, [20880, 20881, 20882], "three providers")
            provider.send_signal(signal.SIGKILL)
        self.await_providers(consumers, [], "the end of the session")
        for consumer in consumers:
            if isinstance(consumer, HttpConsumer):
                # The end of a session is one transaction: no list in between with one or two of them.
                self.assertEqual([len(seen) for seen in consumer.lists][-2:], [3, 0])

    def test_a_thousand_providers_register_at_once_and_all_are_seen(self):
        consumers = self.consumers()
        client = self.connect(chroot="")
        ports = range(30_000, 31_000)
        names = [znode_name(provider_url(port)) for port in ports]
        made = [client.create_async(f"{self.path}/{name}", b"", ephemeral=True) for name in names]
        for result in made:
            result.get(timeout=30)
        self.await_providers(consumers, ports, "a thousand providers")
        client.stop()
        self.await_providers(consumers, [], "that all have gone")

    def test_consumers_and_providers_outlive_the_death_of_a_server(self):
        consumers = self.consumers()
        provider = self.connect(chroot="", timeout=15.0)
        self.register(provider, 20880)
        self.await_providers(consumers, [20880], "the provider")
        kill(int(control("GET", "/leader")))
        other = self.connect(chroot="")
        other.retry(self.register, other, 20881)
        self.await_providers(consumers, [20880, 20881], "the provider that came meanwhile")

    @unittest.skipIf(AGAINST == "zookeeper", "ZooKeeper has no view of services")
    def test_a_stock_registration_is_a_service_without_any_configuration(self):
        interface = INTERFACE + self.root.replace("/", ".")
        name = znode_name(provider_url(20880))
        provider = self.connect(chroot="")
        path = f"/dubbo/{interface}/providers/{name}"
        provider.create(path, b"10.0.0.1", ephemeral=True, makepath=True)
        for address in HTTP_ADDRESSES:
            connection = http.client.HTTPConnection(address, timeout=30)
            connection.request("GET", f"/v1/services/{interface}")
            answer = connection.getresponse()
            service = json.loads(answer.read())
            connection.close()
            self.assertEqual(answer.status, 200, service)
            [found] = service["providers"]
            self.assertEqual((found["host"], found["port"]), ("10.0.0.1", 20880))
            self.assertEqual((found["layout"], found["path"]), ("dubbo", path))
            self.assertEqual(found["metadata"]["application"], "demo-provider")
        provider.stop()

    @unittest.skipIf(AGAINST == "zookeeper", "ZooKeeper has no HTTP door")
    def test_a_provider_registered_over_http_is_seen_by_zookeeper_clients(self):
        follower = KazooConsumer(self.connect(servers=[3], chroot=""), self.path)
        connection = http.client.HTTPConnection(HTTP_ADDRESSES[0], timeout=30)
        connection.request("POST", "/v1/sessions", json.dumps({"timeout_ms": 10_000}))
        session = json.loads(connection.getresponse().read())
        headers = {"Roost-Session": session["token"]}
        url = urllib.parse.quote(f"{self.path}/{znode_name(provider_url(20890))}")
        connection.request("POST", f"/v1/znodes{url}?mode=ephemeral", headers=headers)
        answer = connection.getresponse()
        created = json.loads(answer.read())
        self.assertEqual(answer.status, 201, created)
        wait_for(lambda: follower.providers == {provider_url(20890)}, "the provider")
        stat = self.registrar.exists(f"{self.path}/{znode_name(provider_url(20890))}")
        self.assertEqual(stat.czxid, created["zxid"])
        connection.request("DELETE", f"/v1/sessions/{session['session']}", headers=headers)
        connection.getresponse().read()
        connection.close()
        wait_for(lambda: not follower.providers, "its end")


if __name__ == "__main__":
    main()

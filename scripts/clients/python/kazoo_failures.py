"""kazoo when servers are killed, stopped and started, and when sessions end."""

import signal
import subprocess
import sys
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    ConnectionLoss,
    KazooException,
    NodeExistsError,
    SessionExpiredError,
)
from kazoo.protocol.states import EventType, KazooState
from kazoo.recipe.watchers import ChildrenWatch, DataWatch

from suite import (
    ADDRESSES,
    AGAINST,
    SPARE,
    SUPER,
    EnsembleTest,
    control,
    four_letters,
    kill,
    leader,
    main,
    server_of,
    start,
    unittest,
    wait_for,
)

SERVERS = (1, 2, 3)
# A program that holds an ephemeral and then waits to be killed. It says when it is ready.
PROVIDER = """
import sys, time
from kazoo.client import KazooClient
client = KazooClient(sys.argv[1], timeout=float(sys.argv[3]))
client.start()
client.create(sys.argv[2], b"provider", ephemeral=True, makepath=True)
print(client.client_id[0], flush=True)
time.sleep(600)
"""


def is_listening(address):
    try:
        return four_letters(address, "ruok") == "imok"
    except OSError:
        return False


class FailureTest(EnsembleTest):
    def clean_up(self):
        for server in SERVERS:
            control("POST", f"/resume?server={server}")
        start(*SERVERS)
        super().clean_up()


class Members(FailureTest):
    def test_a_server_is_added_serves_and_is_removed_by_reconfig(self):
        client = self.connect(chroot="", auth_data=[("digest", SUPER)])
        told = []
        before, _ = client.get("/zookeeper/config", watch=told.append)
        version = int(before.decode().splitlines()[-1].removeprefix("version="), 16)
        control("POST", "/spawn?server=4")
        address = SPARE.split(";")[1]
        wait_for(lambda: is_listening(address), "server 4")
        with self.assertRaises(BadVersionError):
            client.reconfig(joining=SPARE, leaving=None, new_members=None, from_config=version + 1)
        after, _ = client.reconfig(joining=SPARE, leaving=None, new_members=None, from_config=version)
        added = [line for line in after.decode().splitlines() if line.startswith("server.4=")]
        self.assertEqual(len(added), 1)
        self.assertTrue(added[0].endswith(f":participant;{address}"), added)
        wait_for(lambda: told, "news of the configuration")
        # It is a server like the others: it has what they have, and what it takes they have too.
        path = f"{self.root}/spare"
        client.create(path, b"1", makepath=True)
        spare = KazooClient(address, timeout=15.0)
        spare.start(60)
        try:
            spare.sync(path)
            self.assertEqual(spare.get(path)[0], b"1")
            spare.set(path, b"2")
            client.sync(path)
            self.assertEqual(client.get(path)[0], b"2")
        finally:
            spare.stop()
            spare.close()
        left, _ = client.reconfig(joining=None, leaving="4", new_members=None)
        self.assertNotIn("server.4=", left.decode())
        self.assertEqual(client.get("/zookeeper/config")[0], left)
        kill(4)
        client.set(path, b"3")


class Expiry(FailureTest):
    def test_a_session_that_another_closes_is_expired_and_its_ephemerals_are_gone(self):
        client, other = self.connect(servers=[1]), self.connect(servers=[2])
        client.create("/e", ephemeral=True)
        states = []
        client.add_listener(states.append)
        session = client.client_id
        double = KazooClient(ADDRESSES[0], client_id=session, timeout=6.0)
        double.start(30)
        double.stop()
        double.close()
        wait_for(lambda: KazooState.LOST in states, "that the session is lost")
        wait_for(lambda: client.connected and client.client_id[0] != session[0], "a new session")
        self.assertIsNone(client.exists("/e"))
        other.sync("/e")
        self.assertIsNone(other.exists("/e"))

    def test_the_znodes_of_a_process_that_is_killed_go_after_its_timeout_and_not_before(self):
        watcher = self.connect(servers=[2])
        path = f"{self.root}/provider"
        program = [sys.executable, "-c", PROVIDER, ADDRESSES[0], path, "3"]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as provider:
            session = int(provider.stdout.readline())
            gone = []
            stat = watcher.exists("/provider", watch=lambda event: gone.append((event, time.monotonic())))
            self.assertEqual(stat.ephemeralOwner, session)
            alive_until = time.monotonic()
            provider.send_signal(signal.SIGKILL)
        wait_for(lambda: gone, "the end of the session")
        event, when = gone[0]
        self.assertEqual((event.type, event.path), (EventType.DELETED, "/provider"))
        # It pings every second or so, so it may have been silent for a while when it was killed.
        self.assertGreater(when - alive_until, 1.0)
        self.assertIsNone(watcher.exists("/provider"))

    def test_requests_of_an_expired_session_fail_as_expired(self):
        client = self.connect(servers=[1])
        session = client.client_id
        control("POST", "/pause?server=1")
        pending = client.create_async("/late", ephemeral=True)
        double = KazooClient(ADDRESSES[1], client_id=session, timeout=6.0)
        double.start(30)
        double.stop()
        double.close()
        control("POST", "/resume?server=1")
        wait_for(pending.ready, "an answer")
        self.assertIsInstance(pending.exception, (SessionExpiredError, ConnectionLoss))
        wait_for(lambda: client.connected and client.client_id[0] != session[0], "a new session")
        client.sync("/late")
        self.assertIsNone(client.exists("/late"))


class Killed(FailureTest):
    def test_a_session_is_taken_up_elsewhere_by_id_and_password(self):
        first = self.connect(servers=[1], timeout=15.0)
        first.create("/e", ephemeral=True)
        session = first.client_id
        # Two clients of one session, both connected, would take it from each other.
        kill(1)
        second = self.connect(servers=[2, 3], client_id=session, timeout=15.0)
        self.assertEqual(second.client_id, session)
        self.assertEqual(second.retry(second.exists, "/e").ephemeralOwner, session[0])
        second.set("/e", b"taken over")

    def test_a_client_of_a_killed_server_goes_on_elsewhere_with_its_session_and_its_watches(self):
        client, other = self.connect(), self.connect()
        client.create("/e", b"0", ephemeral=True)
        client.create("/c")
        data, children, states = [], [], []
        DataWatch(client, "/e", lambda value, stat: data.append(value))
        ChildrenWatch(client, "/c", lambda names: children.append(sorted(names)))
        client.add_listener(states.append)
        session = client.client_id
        killed = server_of(client)
        if server_of(other) == killed:
            other = self.connect(servers=[n for n in SERVERS if n != killed])
        kill(killed)
        # What happens while the client is away is not lost on it.
        client.retry(other.set, "/e", b"1")
        client.retry(other.create, "/c/a")
        wait_for(lambda: data[-1] == b"1" and children[-1] == ["a"], "what changed meanwhile")
        self.assertEqual(client.client_id, session)
        self.assertEqual(states[0], KazooState.SUSPENDED)
        self.assertNotIn(KazooState.LOST, states)
        self.assertNotEqual(server_of(client), killed)
        self.assertEqual(other.exists("/e").ephemeralOwner, session[0])
        other.set("/e", b"2")
        other.create("/c/b")
        wait_for(lambda: data[-1] == b"2" and children[-1] == ["a", "b"], "what changed after")

    def test_nothing_acknowledged_is_lost_when_the_leader_is_killed_under_load(self):
        clients = [self.connect(servers=[n]) for n in SERVERS for _ in range(2)]
        clients[0].create("/load")
        stop = threading.Event()
        acknowledged = [[] for _ in clients]

        def work(number, client):
            count = 0
            unsure = False
            while not stop.is_set():
                name = f"c{number}-{count:06d}"
                try:
                    client.create(f"/load/{name}", name.encode())
                except NodeExistsError:
                    # Only a request whose answer was lost may find its own znode.
                    if not unsure:
                        raise
                except KazooException:
                    unsure = True
                    time.sleep(0.01)
                    continue
                unsure = False
                acknowledged[number].append(name)
                count += 1

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(clients)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            before = [len(names) for names in acknowledged]
            wait_for(
                lambda: all(len(names) > count + 20 for names, count in zip(acknowledged, before)),
                "progress of every client",
            )
            fallen = leader()
            kill(fallen)
            others = [n for n in SERVERS if n != fallen]
            before = [len(names) for names in acknowledged]
            wait_for(
                lambda: all(
                    len(acknowledged[i]) > before[i] + 20 for i in range(len(clients)) if i // 2 + 1 in others
                ),
                "progress without the old leader",
            )
            start(fallen)
        stop.set()
        for thread in threads:
            thread.join(60)
        expected = sorted(name for names in acknowledged for name in names)
        for server in SERVERS:
            reader = self.connect(servers=[server])
            reader.sync("/load")
            present = set(reader.get_children("/load"))
            self.assertEqual([name for name in expected if name not in present], [])
            # One request per client may have been under way at the end of each attempt, and no more.
            self.assertLessEqual(len(present) - len(expected), len(clients))

    @unittest.skipIf(AGAINST == "zookeeper", "ZooKeeper closes all connections then")
    def test_clients_of_followers_keep_their_connections_when_the_leader_is_killed(self):
        fallen = leader()
        clients = [self.connect(servers=[n]) for n in SERVERS if n != fallen]
        sockets = [client._connection._socket.getsockname() for client in clients]
        states = []
        for client in clients:
            client.add_listener(states.append)
        kill(fallen)
        for number, client in enumerate(clients):
            client.create(f"/through-{number}", b"x", ephemeral=True)
        self.assertEqual([client._connection._socket.getsockname() for client in clients], sockets)
        self.assertEqual(states, [])

    def test_a_server_that_hangs_is_left_for_another(self):
        client = self.connect(timeout=3.0)
        client.create("/e", ephemeral=True)
        session = client.client_id
        hung = server_of(client)
        control("POST", f"/pause?server={hung}")
        wait_for(
            lambda: client.connected and client._connection._socket and server_of(client) != hung,
            "another server",
        )
        client.retry(client.set, "/e", b"still mine")
        self.assertEqual(client.client_id, session)
        control("POST", f"/resume?server={hung}")
        back = self.connect(servers=[hung])
        back.sync("/e")
        self.assertEqual(back.get("/e")[0], b"still mine")

    def test_without_a_majority_nothing_is_acknowledged_and_afterwards_all_goes_on(self):
        client = self.connect(timeout=30.0)
        client.create("/e", b"before", ephemeral=True)
        session = client.client_id
        stays = server_of(client)
        for server in SERVERS:
            if server != stays:
                kill(server)
        pending = client.set_async("/e", b"during")
        time.sleep(1)  # Long enough for a server that would answer alone.
        self.assertFalse(pending.successful())
        start(*SERVERS)
        wait_for(lambda: client.connected, "the connection")
        client.retry(client.set, "/e", b"after")
        self.assertEqual(client.get("/e")[0], b"after")
        self.assertEqual(client.client_id, session)

    def test_state_and_sessions_outlive_the_death_of_all_servers(self):
        client = self.connect(timeout=30.0)
        client.create("/kept", b"x")
        client.create("/e", b"y", ephemeral=True)
        session = client.client_id
        for server in SERVERS:
            kill(server)
        start(*SERVERS)
        wait_for(lambda: client.connected, "the connection")
        self.assertEqual(client.retry(client.get, "/kept")[0], b"x")
        data, stat = client.retry(client.get, "/e")
        self.assertEqual((data, stat.ephemeralOwner), (b"y", session[0]))
        self.assertEqual(client.client_id, session)


if __name__ == "__main__":
    main()

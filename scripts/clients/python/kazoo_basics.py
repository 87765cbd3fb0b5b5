"""kazoo as programs use it every day: znodes, watches, transactions, access control, sessions."""

import socket
import struct
import threading

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType, KeeperState
from kazoo.security import ACL, Id, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_acl, make_digest_acl

from suite import ADDRESSES, EnsembleTest, SUPER, main, wait_for


def negotiated_timeout_ms(wished):
    """Returns the timeout that a server gives to a session that wishes for this one, and closes the session. kazoo
    itself cannot connect with a very short one."""
    host, port = ADDRESSES[0].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        handshake = struct.pack(">iqiqi16s?", 0, 0, wished, 0, 16, bytes(16), False)
        connection.sendall(struct.pack(">i", len(handshake)) + handshake)
        answer = connection.recv(41, socket.MSG_WAITALL)
        connection.sendall(struct.pack(">iii", 8, 1, -11))
        connection.recv(20, socket.MSG_WAITALL)
    return struct.unpack_from(">i", answer, 8)[0]


class Znodes(EnsembleTest):
    def test_a_znode_is_created_read_set_and_deleted_with_its_stat(self):
        client = self.connect()
        self.assertEqual(client.create("/a", b"one"), "/a")
        data, stat = client.get("/a")
        self.assertEqual(data, b"one")
        self.assertEqual((stat.version, stat.cversion, stat.aversion), (0, 0, 0))
        self.assertEqual((stat.dataLength, stat.numChildren, stat.ephemeralOwner), (3, 0, 0))
        self.assertEqual((stat.czxid, stat.pzxid), (stat.mzxid, stat.mzxid))
        self.assertEqual(stat.ctime, stat.mtime)
        changed = client.set("/a", b"four", version=0)
        self.assertEqual((changed.version, changed.dataLength, changed.czxid), (1, 4, stat.czxid))
        self.assertGreater(changed.mzxid, stat.mzxid)
        client.create("/a/b")
        parent = client.exists("/a")
        self.assertEqual((parent.cversion, parent.numChildren, parent.version), (1, 1, 1))
        self.assertGreater(parent.pzxid, parent.mzxid)
        client.delete("/a/b")
        self.assertEqual(client.exists("/a").cversion, 2)
        client.delete("/a", version=1)
        self.assertIsNone(client.exists("/a"))

    def test_each_refusal_is_the_exception_that_kazoo_has_for_it(self):
        client = self.connect()
        client.create("/a")
        client.create("/a/b")
        client.create("/e", ephemeral=True)
        with self.assertRaises(NodeExistsError):
            client.create("/a")
        with self.assertRaises(NoNodeError):
            client.create("/no/parent")
        with self.assertRaises(NoNodeError):
            client.get("/no")
        with self.assertRaises(NoNodeError):
            client.get_children("/no")
        with self.assertRaises(NoNodeError):
            client.set("/no", b"")
        with self.assertRaises(NoNodeError):
            client.delete("/no")
        with self.assertRaises(NotEmptyError):
            client.delete("/a")
        with self.assertRaises(BadVersionError):
            client.set("/a", b"", version=7)
        with self.assertRaises(BadVersionError):
            client.delete("/a/b", version=7)
        with self.assertRaises(NoChildrenForEphemeralsError):
            client.create("/e/child")
        with self.assertRaises(InvalidACLError):
            client.create("/f", acl=[ACL(31, Id("no such scheme", "x"))])

    def test_every_create_mode_makes_its_kind_of_znode(self):
        client = self.connect()
        session = client.client_id[0]
        self.assertEqual(client.create("/plain"), "/plain")
        self.assertEqual(client.create("/seq-", sequence=True), "/seq-0000000001")
        path, stat = client.create("/eph", ephemeral=True, include_data=True)
        self.assertEqual((path, stat.ephemeralOwner), ("/eph", session))
        path, stat = client.create("/eph-", ephemeral=True, sequence=True, include_data=True)
        self.assertEqual((path, stat.ephemeralOwner), ("/eph-0000000003", session))
        self.assertEqual(client.create("/parents/are/made", b"x", makepath=True), "/parents/are/made")
        self.assertEqual(client.get("/parents/are")[0], b"")

    def test_a_sequence_counts_every_child_ever_made_and_forgets_no_deleted_one(self):
        client = self.connect()
        client.create("/s")
        made = [client.create("/s/n", sequence=True) for _ in range(3)]
        client.delete(made[1])
        client.create("/s/plain")
        self.assertEqual(made, ["/s/n0000000000", "/s/n0000000001", "/s/n0000000002"])
        self.assertEqual(client.create("/s/n", sequence=True), "/s/n0000000004")
        self.assertEqual(client.create("/s/", sequence=True), "/s/0000000005")

    def test_data_of_nearly_a_mebibyte_and_of_nothing_comes_back_as_it_was(self):
        client = self.connect()
        big = bytes(range(256)) * 4000
        client.create("/big", big)
        self.assertEqual(client.get("/big")[0], big)
        client.create("/empty", b"")
        self.assertEqual(client.get("/empty"), (b"", client.exists("/empty")))
        client.create("/ünïcode ☃ and spaces", b"x")
        self.assertIn("ünïcode ☃ and spaces", client.get_children("/"))

    def test_a_list_of_many_long_names_arrives_whole(self):
        client = self.connect()
        client.create("/many")
        names = [f"provider-{n:05d}-{'x' * 60}" for n in range(3000)]
        for begin in range(0, len(names), 500):
            transaction = client.transaction()
            for name in names[begin : begin + 500]:
                transaction.create(f"/many/{name}")
            transaction.commit()
        self.assertEqual(sorted(client.get_children("/many")), names)
        children, stat = client.get_children("/many", include_data=True)
        self.assertEqual((len(children), stat.numChildren, stat.cversion), (3000, 3000, 3000))

    def test_paths_are_below_the_chroot_and_leave_it_nowhere(self):
        client, outside = self.connect(), self.connect(chroot="")
        self.assertEqual(client.create("/in"), "/in")
        outside.sync("/")
        self.assertIsNotNone(outside.exists(f"{self.root}/in"))
        self.assertEqual(client.create("/in/s-", sequence=True), "/in/s-0000000000")
        transaction = client.transaction()
        transaction.create("/in/t")
        self.assertEqual(transaction.commit(), ["/in/t"])
        seen = []
        client.get("/in", watch=seen.append)
        outside.set(f"{self.root}/in", b"x")
        wait_for(lambda: seen, "the event")
        self.assertEqual((seen[0].type, seen[0].path), (EventType.CHANGED, "/in"))
        self.assertEqual(client.sync("/in"), "/in")

    def test_sync_shows_what_another_server_has_taken(self):
        writer, reader = self.connect(servers=[1]), self.connect(servers=[2])
        writer.create("/s", b"0")
        reader.sync("/")
        for round_ in range(1, 50):
            writer.set("/s", str(round_).encode())
            reader.sync("/s")
            self.assertEqual(reader.get("/s")[0], str(round_).encode())


class Pipelining(EnsembleTest):
    def test_a_thousand_requests_under_way_are_answered_in_their_order(self):
        client = self.connect()
        client.create("/p", b"")
        order = []
        results = []
        for n in range(500):
            written = client.set_async("/p", str(n).encode())
            read = client.get_async("/p")
            for kind, result in (("set", written), ("get", read)):
                result.rawlink(lambda _, kind=kind, n=n: order.append((n, kind)))
                results.append((kind, n, result))
        for kind, n, result in results:
            if kind == "set":
                self.assertEqual(result.get(timeout=30).version, n + 1)
            else:
                # A read sees the write before it, and none behind it.
                self.assertEqual(result.get(timeout=30)[0], str(n).encode())
        wait_for(lambda: len(order) == 1000, "all callbacks")
        self.assertEqual(order, [(n, kind) for n in range(500) for kind in ("set", "get")])

    def test_refusals_among_pipelined_requests_keep_their_places(self):
        client = self.connect()
        made = [client.create_async("/x", str(n).encode()) for n in range(3)]
        gone = [client.delete_async("/x") for _ in range(2)]
        again = client.create_async("/x", b"again")
        self.assertEqual(made[0].get(timeout=30), "/x")
        for refused in made[1:]:
            self.assertIsInstance(wait_for(lambda: refused.exception, "a refusal"), NodeExistsError)
        self.assertIs(gone[0].get(timeout=30), True)
        self.assertIsInstance(wait_for(lambda: gone[1].exception, "a refusal"), NoNodeError)
        self.assertEqual(again.get(timeout=30), "/x")

    def test_eight_threads_on_one_client_lose_nothing(self):
        client = self.connect()
        client.create("/t")

        def work():
            for _ in range(50):
                client.create("/t/n", sequence=True)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = sorted(client.get_children("/t"))
        self.assertEqual(names, [f"n{n:010d}" for n in range(400)])


class Watches(EnsembleTest):
    def test_each_change_fires_the_watches_that_it_concerns_and_each_once(self):
        client, other = self.connect(servers=[1]), self.connect(servers=[1])
        seen = []
        client.create("/w")
        client.exists("/w/c", watch=seen.append)
        client.get_children("/w", watch=seen.append)
        other.create("/w/c", b"1")
        wait_for(lambda: len(seen) == 2, "created and child")
        self.assertEqual(
            {(event.type, event.path) for event in seen},
            {(EventType.CREATED, "/w/c"), (EventType.CHILD, "/w")},
        )
        self.assertTrue(all(event.state == KeeperState.CONNECTED for event in seen))
        del seen[:]
        client.get("/w/c", watch=seen.append)
        other.set("/w/c", b"2")
        other.set("/w/c", b"3")
        wait_for(lambda: seen, "changed")
        client.get("/w/c", watch=seen.append)
        other.delete("/w/c")
        wait_for(lambda: len(seen) == 2, "deleted")
        self.assertEqual([event.type for event in seen], [EventType.CHANGED, EventType.DELETED])
        client.sync("/w")
        client.get("/w")
        self.assertEqual(len(seen), 2)

    def test_the_end_of_a_session_fires_the_watches_of_its_ephemerals(self):
        client, provider = self.connect(), self.connect()
        seen = []
        provider.create("/e", ephemeral=True)
        client.sync("/e")
        client.exists("/e", watch=seen.append)
        provider.stop()
        wait_for(lambda: seen, "deleted")
        self.assertEqual([event.type for event in seen], [EventType.DELETED])
        self.assertIsNone(client.exists("/e"))


class Transactions(EnsembleTest):
    def test_all_ops_of_a_transaction_happen_at_once(self):
        client = self.connect()
        client.create("/t", b"0")
        transaction = client.transaction()
        transaction.create("/t/a", b"x")
        transaction.create("/t/s-", sequence=True, ephemeral=True)
        transaction.set_data("/t", b"1", version=0)
        transaction.check("/t", 1)
        transaction.delete("/t/a")
        created, sequential, stat, checked, deleted = transaction.commit()
        self.assertEqual((created, sequential), ("/t/a", "/t/s-0000000001"))
        self.assertEqual((stat.version, checked, deleted), (1, True, True))
        # One transaction, one zxid.
        self.assertEqual(client.exists("/t/s-0000000001").czxid, stat.mzxid)

    def test_a_failed_transaction_does_nothing_and_names_the_failure_of_each_op(self):
        client = self.connect()
        client.create("/t", b"0")
        seen = []
        client.get("/t", watch=seen.append)
        transaction = client.transaction()
        transaction.set_data("/t", b"1")
        transaction.create("/t/a")
        transaction.delete("/missing")
        transaction.create("/t/b")
        results = transaction.commit()
        kinds = [RolledBackError, RolledBackError, NoNodeError, RuntimeInconsistency]
        self.assertEqual([type(result) for result in results], kinds)
        self.assertEqual(client.get("/t")[0], b"0")
        self.assertEqual(client.get_children("/t"), [])
        self.assertEqual(seen, [])

    def test_each_way_to_fail_has_its_own_error_in_a_transaction(self):
        client = self.connect()
        client.create("/t")
        client.create("/t/full")
        client.create("/t/full/child")
        client.create("/t/e", ephemeral=True)
        attempts = [
            (lambda t: t.create("/t"), NodeExistsError),
            (lambda t: t.create("/no/parent"), NoNodeError),
            (lambda t: t.create("/t/e/child"), NoChildrenForEphemeralsError),
            (lambda t: t.delete("/t/full"), NotEmptyError),
            (lambda t: t.delete("/t", version=9), BadVersionError),
            (lambda t: t.set_data("/t", b"", version=9), BadVersionError),
            (lambda t: t.check("/t", 9), BadVersionError),
            (lambda t: t.check("/no", -1), NoNodeError),
            (lambda t: t.create("/t/x", acl=[ACL(31, Id("bad", "x"))]), InvalidACLError),
        ]
        for attempt, expected in attempts:
            transaction = client.transaction()
            attempt(transaction)
            self.assertEqual([type(r) for r in transaction.commit()], [expected])

    def test_an_empty_transaction_is_no_error(self):
        self.assertEqual(self.connect().transaction().commit(), [])

    def test_the_watches_of_a_transaction_fire_in_the_order_of_its_ops(self):
        client, other = self.connect(servers=[1]), self.connect(servers=[1])
        client.create("/t", b"")
        seen = []
        for name in ("a", "b", "c"):
            client.exists(f"/t/{name}", watch=lambda event: seen.append(event.path))
        transaction = other.transaction()
        for name in ("b", "a", "c"):
            transaction.create(f"/t/{name}")
        transaction.commit()
        wait_for(lambda: len(seen) == 3, "three events")
        self.assertEqual(seen, ["/t/b", "/t/a", "/t/c"])


class Access(EnsembleTest):
    """All clients are of one server, where each sees at once what another has done."""

    def connect(self, servers=(1,), **options):
        return super().connect(servers, **options)

    def test_a_digest_opens_what_its_list_allows_and_no_more(self):
        owner = self.connect(auth_data=[("digest", "owner:secret")])
        stranger = self.connect()
        owner.create("/private", b"x", acl=[make_digest_acl("owner", "secret", all=True)])
        self.assertEqual(owner.get("/private")[0], b"x")
        owner.create("/private/child")
        for attempt in (
            lambda: stranger.get("/private"),
            lambda: stranger.get_children("/private"),
            lambda: stranger.set("/private", b""),
            lambda: stranger.create("/private/other"),
            lambda: stranger.delete("/private/child"),
            lambda: stranger.set_acls("/private", OPEN_ACL_UNSAFE),
            lambda: stranger.get_acls("/private"),
        ):
            with self.assertRaises(NoAuthError):
                attempt()
        stranger.add_auth("digest", "owner:secret")
        self.assertEqual(stranger.get("/private")[0], b"x")
        wrong = self.connect()
        wrong.add_auth("digest", "owner:guess")
        with self.assertRaises(NoAuthError):
            wrong.get("/private")

    def test_everyone_may_read_what_is_world_readable_and_write_it_not(self):
        owner = self.connect(auth_data=[("digest", "owner:secret")])
        stranger = self.connect()
        acl = [make_digest_acl("owner", "secret", all=True)] + READ_ACL_UNSAFE
        owner.create("/shown", b"x", acl=acl)
        self.assertEqual(stranger.get("/shown")[0], b"x")
        with self.assertRaises(NoAuthError):
            stranger.set("/shown", b"y")
        shown, _ = stranger.get_acls("/shown")
        self.assertIn(ACL(1, Id("world", "anyone")), shown)
        # Without the right to administer, the hash of a password is not shown.
        self.assertIn(ACL(31, Id("digest", "owner:x")), shown)
        full, stat = owner.get_acls("/shown")
        self.assertIn(make_digest_acl("owner", "secret", all=True), full)
        self.assertEqual(stat.aversion, 0)

    def test_the_scheme_auth_stands_for_who_the_client_is(self):
        client = self.connect(auth_data=[("digest", "me:mine")])
        client.create("/mine", acl=[make_acl("auth", "", all=True)])
        self.assertEqual(client.get_acls("/mine")[0], [make_digest_acl("me", "mine", all=True)])
        with self.assertRaises(InvalidACLError):
            self.connect().create("/nobody", acl=[make_acl("auth", "", all=True)])

    def test_an_access_list_is_changed_by_version(self):
        client = self.connect()
        client.create("/a")
        self.assertEqual(client.set_acls("/a", READ_ACL_UNSAFE + OPEN_ACL_UNSAFE, version=0).aversion, 1)
        with self.assertRaises(BadVersionError):
            client.set_acls("/a", OPEN_ACL_UNSAFE, version=0)
        with self.assertRaises(NoNodeError):
            client.set_acls("/no", OPEN_ACL_UNSAFE)

    def test_addresses_are_identities(self):
        client = self.connect()
        client.create("/here", acl=[make_acl("ip", "127.0.0.1", all=True)])
        client.create("/net", acl=[make_acl("ip", "127.0.0.0/8", all=True)])
        client.create("/elsewhere", acl=[make_acl("ip", "10.1.2.3", all=True)])
        client.get("/here")
        client.get("/net")
        with self.assertRaises(NoAuthError):
            client.get("/elsewhere")

    def test_the_super_user_may_everything(self):
        client = self.connect(auth_data=[("digest", "owner:secret")])
        client.create("/private", b"x", acl=[make_digest_acl("owner", "secret", all=True)])
        almighty = self.connect(auth_data=[("digest", SUPER)])
        self.assertEqual(almighty.get("/private")[0], b"x")
        almighty.set_acls("/private", OPEN_ACL_UNSAFE)
        self.connect().set("/private", b"y")

    def test_an_unknown_scheme_is_refused(self):
        client = self.connect()
        with self.assertRaises(AuthFailedError):
            client.add_auth("no such scheme", "x")


class Sessions(EnsembleTest):
    def test_ephemerals_go_with_the_close_of_their_session_and_not_before(self):
        provider, other = self.connect(), self.connect()
        provider.create("/e", b"x", ephemeral=True)
        other.sync("/e")
        self.assertEqual(other.exists("/e").ephemeralOwner, provider.client_id[0])
        provider.stop()
        other.sync("/e")
        self.assertIsNone(other.exists("/e"))

    def test_the_timeout_is_moved_into_the_range_of_the_ensemble(self):
        for wished, low, high in ((1, 500, 5_000), (6_000, 6_000, 6_000), (2**31 - 1, 20_000, 2**30)):
            given = negotiated_timeout_ms(wished)
            self.assertTrue(low <= given <= high, f"{wished} ms became {given} ms")

    def test_a_session_with_a_wrong_password_is_expired_not_given_away(self):
        victim = self.connect()
        victim.create("/e", ephemeral=True)
        session, password = victim.client_id
        forged = bytes(byte ^ 0xFF for byte in password)
        states = []
        thief = KazooClient(",".join(ADDRESSES), client_id=(session, forged), timeout=6.0)
        thief.add_listener(states.append)
        self.clients.append(thief)
        thief.start(30)
        # kazoo takes a new session when it is told that the old one has expired.
        self.assertNotEqual(thief.client_id[0], session)
        self.assertIsNotNone(victim.exists("/e"))


class Operation(EnsembleTest):
    def test_four_letter_words_through_kazoo(self):
        client = self.connect()
        self.assertEqual(client.command(b"ruok"), "imok")
        self.assertIn("Mode:", client.command(b"srvr"))
        self.assertTrue(client.command(b"stat").startswith("Zookeeper version:"))
        version = client.server_version()
        self.assertGreaterEqual(version, (3, 8, 0))

    def test_the_configuration_names_the_members_and_their_client_addresses(self):
        client = self.connect(chroot="")
        data, _ = client.get("/zookeeper/config")
        lines = data.decode().splitlines()
        members = [line for line in lines if line.startswith("server.")]
        self.assertEqual(len(members), 3)
        for member, address in zip(sorted(members), ADDRESSES):
            self.assertTrue(member.endswith(";" + address), member)
        self.assertTrue(lines[-1].startswith("version="))

    def test_a_reconfig_without_the_right_to_it_and_a_malformed_one_change_nothing(self):
        client = self.connect(chroot="")
        before = client.get("/zookeeper/config")[0]
        with self.assertRaises(NoAuthError):
            client.reconfig(joining=None, leaving="3", new_members=None)
        client.add_auth("digest", SUPER)
        with self.assertRaises(BadArgumentsError):
            client.reconfig(joining="nonsense", leaving=None, new_members=None)
        self.assertEqual(client.get("/zookeeper/config")[0], before)


if __name__ == "__main__":
    main()

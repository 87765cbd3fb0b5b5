"""Every recipe of kazoo, with several clients on different servers."""

import threading
import time
from datetime import timedelta

from kazoo.exceptions import LockTimeout
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.lease import NonBlockingLease
from kazoo.recipe.partitioner import SetPartitioner
from kazoo.recipe.watchers import ChildrenWatch, DataWatch, PatientChildrenWatch

from suite import EnsembleTest, main, wait_for


def together(*works):
    """Runs functions at the same time, and raises what one of them raised."""
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        if thread.is_alive():
            raise AssertionError("work did not end")
    if errors:
        raise errors[0]


class Locks(EnsembleTest):
    def test_a_lock_has_one_holder_at_a_time_whichever_server_it_asks(self):
        clients = [self.connect(servers=[n % 3 + 1]) for n in range(6)]
        inside = []
        most = []

        def work(client, name):
            for _ in range(5):
                with client.Lock("/lock", name):
                    inside.append(name)
                    most.append(len(inside))
                    inside.remove(name)

        together(*(lambda c=c, n=n: work(c, f"c{n}") for n, c in enumerate(clients)))
        self.assertEqual(most, [1] * 30)

    def test_contenders_stand_in_the_order_of_their_asking(self):
        first, second, third = (self.connect() for _ in range(3))
        lock = first.Lock("/lock", "one")
        self.assertTrue(lock.acquire())
        order = []

        def wait(client, name):
            with client.Lock("/lock", name):
                order.append(name)

        threads = []
        for client, name in ((second, "two"), (third, "three")):
            threads.append(threading.Thread(target=wait, args=(client, name)))
            threads[-1].start()
            wait_for(lambda: name in lock.contenders(), "the contender")
        self.assertEqual(lock.contenders(), ["one", "two", "three"])
        lock.release()
        for thread in threads:
            thread.join(30)
        self.assertEqual(order, ["two", "three"])

    def test_a_lock_that_is_held_times_out_and_does_not_block_who_will_not_wait(self):
        holder, other = self.connect(), self.connect()
        with holder.Lock("/lock"):
            self.assertFalse(other.Lock("/lock").acquire(blocking=False))
            with self.assertRaises(LockTimeout):
                other.Lock("/lock").acquire(timeout=0.2)
        self.assertTrue(other.Lock("/lock").acquire(timeout=10))

    def test_the_lock_of_a_client_that_goes_passes_to_the_next(self):
        holder, other = self.connect(), self.connect()
        self.assertTrue(holder.Lock("/lock").acquire())
        waiting = other.Lock("/lock")
        taken = threading.Event()
        thread = threading.Thread(target=lambda: (waiting.acquire(), taken.set()))
        thread.start()
        wait_for(lambda: len(waiting.contenders()) == 2, "the contender")
        holder.stop()
        self.assertTrue(taken.wait(30))
        thread.join()

    def test_readers_share_and_a_writer_does_not(self):
        a, b, writer = self.connect(), self.connect(), self.connect()
        one, two = a.ReadLock("/rw"), b.ReadLock("/rw")
        self.assertTrue(one.acquire() and two.acquire())
        self.assertFalse(writer.WriteLock("/rw").acquire(blocking=False))
        one.release()
        two.release()
        exclusive = writer.WriteLock("/rw")
        self.assertTrue(exclusive.acquire(timeout=10))
        self.assertFalse(a.ReadLock("/rw").acquire(blocking=False))
        exclusive.release()
        self.assertTrue(a.ReadLock("/rw").acquire(timeout=10))

    def test_a_semaphore_gives_as_many_leases_as_it_has(self):
        clients = [self.connect() for _ in range(3)]
        semaphores = [client.Semaphore("/sem", max_leases=2, identifier=str(n)) for n, client in enumerate(clients)]
        self.assertTrue(semaphores[0].acquire())
        self.assertTrue(semaphores[1].acquire())
        self.assertFalse(semaphores[2].acquire(blocking=False))
        self.assertEqual(sorted(semaphores[2].lease_holders()), ["0", "1"])
        semaphores[0].release()
        self.assertTrue(semaphores[2].acquire(timeout=10))

    def test_a_lease_is_for_one_until_its_time_is_over(self):
        one, two = self.connect(), self.connect()
        self.assertTrue(NonBlockingLease(one, "/lease", timedelta(seconds=30), identifier="one"))
        two.sync("/")
        self.assertFalse(NonBlockingLease(two, "/lease", timedelta(seconds=30), identifier="two"))
        self.assertTrue(NonBlockingLease(one, "/lease", timedelta(milliseconds=1), identifier="one"))
        wait_for(
            lambda: NonBlockingLease(two, "/lease", timedelta(seconds=30), identifier="two"),
            "the lease",
        )


class Groups(EnsembleTest):
    def test_an_election_has_one_leader_and_the_next_follows_it(self):
        clients = [self.connect(servers=[n + 1]) for n in range(3)]
        led = []
        leading = []

        def lead(name):
            leading.append(name)
            self.assertEqual(len(leading), 1)
            led.append(name)
            leading.remove(name)

        together(*(lambda n=n, c=c: c.Election("/election", str(n)).run(lead, n) for n, c in enumerate(clients)))
        self.assertEqual(sorted(led), [0, 1, 2])

    def test_a_barrier_holds_until_it_is_taken_away(self):
        maker, waiter = self.connect(), self.connect()
        barrier = maker.Barrier("/barrier")
        barrier.create()
        waiter.sync("/")
        self.assertFalse(waiter.Barrier("/barrier").wait(timeout=0.1))
        passed = threading.Event()
        thread = threading.Thread(target=lambda: waiter.Barrier("/barrier").wait(30) and passed.set())
        thread.start()
        barrier.remove()
        self.assertTrue(passed.wait(30))
        thread.join()

    def test_a_double_barrier_opens_when_all_have_come_and_when_all_have_gone(self):
        clients = [self.connect() for _ in range(3)]
        inside, outside = [], []

        def work(client, name):
            barrier = DoubleBarrier(client, "/double", 3, name)
            barrier.enter()
            self.assertTrue(barrier.participating)
            inside.append(name)
            wait_for(lambda: len(inside) == 3, "all inside")
            barrier.leave()
            outside.append(name)

        together(*(lambda c=c, n=n: work(c, str(n)) for n, c in enumerate(clients)))
        self.assertEqual(sorted(outside), ["0", "1", "2"])

    def test_a_party_knows_who_is_there(self):
        one, two = self.connect(), self.connect()
        first, second = one.Party("/party", "one"), two.Party("/party", "two")
        first.join()
        second.join()
        one.sync("/")
        self.assertEqual(sorted(first), ["one", "two"])
        second.leave()
        one.sync("/")
        self.assertEqual(list(first), ["one"])
        shallow = two.ShallowParty("/shallow", "two")
        shallow.join()
        one.sync("/")
        self.assertEqual(list(one.ShallowParty("/shallow")), ["two"])
        two.stop()
        one.sync("/")
        self.assertEqual(len(one.ShallowParty("/shallow")), 0)

    def test_a_partitioner_divides_a_set_and_divides_it_anew(self):
        one, two = self.connect(), self.connect()
        whole = tuple(range(6))
        parts = [
            SetPartitioner(client, "/parts", whole, identifier=name, time_boundary=0.2)
            for client, name in ((one, "one"), (two, "two"))
        ]
        together(*(lambda p=p: p.wait_for_acquire(30) for p in parts))
        together(*(lambda p=p: settle(p) for p in parts))
        owned = [sorted(part) for part in parts]
        self.assertEqual(sorted(owned[0] + owned[1]), list(whole))
        self.assertTrue(all(len(part) == 3 for part in owned), owned)
        for part in parts:
            part.finish()


def settle(partitioner):
    """Goes on until the partitioner has what it keeps: half of the set."""
    ends = time.monotonic() + 30
    while not (partitioner.acquired and len(list(partitioner)) == 3):
        if time.monotonic() > ends:
            raise AssertionError(f"the partitioner is {partitioner.state}")
        if partitioner.release:
            partitioner.release_set()
        elif partitioner.allocating:
            partitioner.wait_for_acquire(10)
        time.sleep(0.01)


class Queues(EnsembleTest):
    def test_a_queue_gives_by_priority_and_then_by_age(self):
        one, two = self.connect(), self.connect()
        queue = one.Queue("/queue")
        for value, priority in ((b"b", 100), (b"c", 100), (b"a", 10)):
            queue.put(value, priority)
        self.assertEqual(len(queue), 3)
        two.sync("/")
        self.assertEqual([two.Queue("/queue").get() for _ in range(4)], [b"a", b"b", b"c", None])

    def test_consumers_of_a_queue_get_each_entry_once(self):
        clients = [self.connect(servers=[n + 1]) for n in range(3)]
        for n in range(30):
            clients[0].Queue("/queue").put(str(n).encode())
        got = []

        def work(client):
            queue = client.Queue("/queue")
            while (value := queue.get()) is not None:
                got.append(int(value))

        together(*(lambda c=c: work(c) for c in clients))
        self.assertEqual(sorted(got), list(range(30)))

    def test_an_entry_of_a_locking_queue_comes_back_when_its_consumer_goes(self):
        one, two = self.connect(), self.connect()
        queue = one.LockingQueue("/locking")
        queue.put_all([b"a", b"b"])
        self.assertEqual(queue.get(10), b"a")
        other = two.LockingQueue("/locking")
        self.assertEqual(other.get(10), b"b")
        self.assertTrue(other.consume())
        one.stop()
        self.assertEqual(other.get(10), b"a")
        self.assertTrue(other.consume())
        self.assertIsNone(other.get(0.1))

    def test_a_counter_counts_for_all(self):
        clients = [self.connect(servers=[n + 1]) for n in range(3)]

        def work(client):
            counter = client.Counter("/counter")
            for _ in range(20):
                counter += 2
                counter -= 1

        together(*(lambda c=c: work(c) for c in clients))
        counter = clients[0].Counter("/counter")
        clients[0].sync("/counter")
        self.assertEqual(counter.value, 60)
        # The zxid of a change is what later changes are compared by.
        counter += 1
        self.assertEqual((counter.pre_value, counter.post_value), (60, 61))


class Watchers(EnsembleTest):
    def test_a_data_watch_follows_a_znode_through_its_lives(self):
        client, other = self.connect(), self.connect()
        seen = []
        DataWatch(client, "/d", lambda data, stat: seen.append(data))
        wait_for(lambda: seen == [None], "that there is none")
        other.create("/d", b"1")
        wait_for(lambda: seen[-1] == b"1", "created")
        other.set("/d", b"2")
        wait_for(lambda: seen[-1] == b"2", "changed")
        other.delete("/d")
        wait_for(lambda: seen[-1] is None, "deleted")
        other.create("/d", b"3")
        wait_for(lambda: seen[-1] == b"3", "created again")

    def test_a_children_watch_ends_at_the_present_list(self):
        client, other = self.connect(), self.connect()
        client.create("/c")
        seen = []
        ChildrenWatch(client, "/c", lambda children: seen.append(sorted(children)))
        for n in range(20):
            other.create(f"/c/{n:02d}")
        wait_for(lambda: seen[-1] == [f"{n:02d}" for n in range(20)], "all children")
        self.assertEqual(seen[0], [])
        # Each list that it shows has at least the names of the one before: nothing goes back in time.
        for earlier, later in zip(seen, seen[1:]):
            self.assertTrue(set(earlier) <= set(later), seen)

    def test_a_patient_children_watch_waits_until_a_list_is_quiet(self):
        client = self.connect()
        client.create("/c")
        client.create("/c/a")
        watch = PatientChildrenWatch(client, "/c", time_boundary=0.2)
        children, changed = watch.start().get(timeout=30)
        self.assertEqual(children, ["a"])
        client.create("/c/b")
        changed.wait(30)
        self.assertTrue(changed.ready())

    def test_a_tree_cache_becomes_and_stays_a_copy(self):
        client, other = self.connect(), self.connect()
        other.create("/tree/a/b", b"1", makepath=True)
        client.sync("/")
        cache = TreeCache(client, "/tree")
        events = []
        cache.listen(events.append)
        cache.start()
        self.addCleanup(cache.close)
        wait_for(lambda: any(e.event_type == TreeEvent.INITIALIZED for e in events), "the first copy")
        self.assertEqual(cache.get_data("/tree/a/b").data, b"1")
        other.set("/tree/a/b", b"2")
        wait_for(lambda: cache.get_data("/tree/a/b").data == b"2", "the change")
        other.create("/tree/a/c", b"3", ephemeral=True)
        wait_for(lambda: cache.get_children("/tree/a") == frozenset(["b", "c"]), "the child")
        other.stop()
        wait_for(lambda: cache.get_children("/tree/a") == frozenset(["b"]), "the end of the ephemeral")


if __name__ == "__main__":
    main()

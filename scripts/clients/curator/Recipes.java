import static java.util.stream.Collectors.toList;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;

/** Curator's recipes, each with clients of different servers. */
final class Recipes {
    static void add(Map<String, Suite.Test> tests) {
        tests.put("a mutex has one holder at a time", Recipes::mutex);
        tests.put("readers share a lock and a writer does not", Recipes::readWriteLock);
        tests.put("a semaphore gives as many leases as it has", Recipes::semaphore);
        tests.put("a leader latch passes on when its holder goes", Recipes::leaderLatch);
        tests.put("a leader selector lets each lead in turn", Recipes::leaderSelector);
        tests.put("a CuratorCache becomes and stays a copy", Recipes::curatorCache);
        tests.put("a TreeCache becomes and stays a copy", Recipes::treeCache);
        tests.put("a PathChildrenCache becomes and stays a copy", Recipes::pathChildrenCache);
        tests.put("a cache is whole again after its server was killed", Recipes::cacheOfAKilledServer);
        tests.put("an atomic long loses no increment", Recipes::atomicLong);
        tests.put("a shared count is compared and set", Recipes::sharedCount);
        tests.put("a persistent node comes back when someone deletes it", Recipes::persistentNode);
        tests.put("a persistent node with a time to live is kept alive", Recipes::persistentTtlNode);
        tests.put("a group member is seen by the others", Recipes::groupMember);
        tests.put("barriers open for all at once", Recipes::barriers);
        tests.put("a queue gives each entry once", Recipes::queue);
    }

    /** Runs works at the same time, and throws what one of them threw. */
    private static void together(List<Callable<Void>> works) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(works.size());
        try {
            for (Future<Void> future : threads.invokeAll(works, 60, TimeUnit.SECONDS)) {
                future.get();
            }
        } finally {
            threads.shutdownNow();
        }
    }

    private static List<CuratorFramework> clients(Suite suite) {
        List<CuratorFramework> clients = new ArrayList<>();
        for (String server : Suite.SERVERS) {
            clients.add(suite.client(server));
        }
        return clients;
    }

    private static void mutex(Suite suite) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger entered = new AtomicInteger();
        List<Callable<Void>> works = new ArrayList<>();
        for (CuratorFramework client : clients(suite)) {
            InterProcessMutex mutex = new InterProcessMutex(client, "/mutex");
            works.add(
                    () -> {
                        for (int n = 0; n < 10; n++) {
                            Suite.that(mutex.acquire(30, TimeUnit.SECONDS), "acquired");
                            Suite.same(1, inside.incrementAndGet());
                            entered.incrementAndGet();
                            inside.decrementAndGet();
                            mutex.release();
                        }
                        return null;
                    });
        }
        together(works);
        Suite.same(30, entered.get());
    }

    private static void readWriteLock(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        var one = new InterProcessReadWriteLock(clients.get(0), "/rw");
        var two = new InterProcessReadWriteLock(clients.get(1), "/rw");
        one.readLock().acquire();
        Suite.that(two.readLock().acquire(30, TimeUnit.SECONDS), "a second reader");
        var three = new InterProcessReadWriteLock(clients.get(2), "/rw");
        Suite.that(!three.writeLock().acquire(100, TimeUnit.MILLISECONDS), "no writer beside readers");
        one.readLock().release();
        two.readLock().release();
        Suite.that(three.writeLock().acquire(30, TimeUnit.SECONDS), "the writer");
        Suite.that(!one.readLock().acquire(100, TimeUnit.MILLISECONDS), "no reader beside a writer");
        three.writeLock().release();
    }

    private static void semaphore(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        var first = new InterProcessSemaphoreV2(clients.get(0), "/sem", 2).acquire();
        Suite.that(
                new InterProcessSemaphoreV2(clients.get(1), "/sem", 2).acquire(30, TimeUnit.SECONDS) != null,
                "the second lease");
        var third = new InterProcessSemaphoreV2(clients.get(2), "/sem", 2);
        Suite.that(third.acquire(100, TimeUnit.MILLISECONDS) == null, "no third lease");
        first.close();
        Suite.that(third.acquire(30, TimeUnit.SECONDS) != null, "the lease that was given back");
    }

    private static void leaderLatch(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        LeaderLatch first = new LeaderLatch(clients.get(0), "/latch", "first");
        LeaderLatch second = suite.closing(new LeaderLatch(clients.get(1), "/latch", "second"));
        first.start();
        Suite.that(first.await(30, TimeUnit.SECONDS), "the first leads");
        second.start();
        Suite.await("two participants", () -> second.getParticipants().size() == 2);
        Suite.same("first", second.getLeader().getId());
        Suite.that(!second.hasLeadership(), "one leader");
        first.close();
        Suite.that(second.await(30, TimeUnit.SECONDS), "the second leads");
    }

    private static void leaderSelector(Suite suite) throws Exception {
        AtomicInteger leading = new AtomicInteger();
        ConcurrentLinkedQueue<String> led = new ConcurrentLinkedQueue<>();
        for (CuratorFramework client : clients(suite)) {
            LeaderSelector selector =
                    suite.closing(
                            new LeaderSelector(
                                    client,
                                    "/selector",
                                    new LeaderSelectorListenerAdapter() {
                                        @Override
                                        public void takeLeadership(CuratorFramework c) {
                                            led.add(leading.incrementAndGet() + "");
                                            leading.decrementAndGet();
                                        }
                                    }));
            selector.start();
        }
        Suite.await("that all have led", () -> led.size() == 3);
        Suite.same(List.of("1", "1", "1"), List.copyOf(led));
    }

    private static Map<String, String> contents(CuratorCache cache) {
        Map<String, String> found = new java.util.TreeMap<>();
        cache.stream().forEach(data -> found.put(data.getPath(), Suite.text(data.getData())));
        return found;
    }

    private static void put(CuratorFramework client, String path, String data) throws Exception {
        client.create().creatingParentsIfNeeded().forPath(path, Suite.bytes(data));
    }

    private static void curatorCache(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        put(clients.get(1), "/cache", "");
        put(clients.get(1), "/cache/a", "1");
        CountDownLatch initialized = new CountDownLatch(1);
        CuratorCache cache = suite.closing(CuratorCache.build(clients.get(0), "/cache"));
        cache.listenable().addListener(CuratorCacheListener.builder().forInitialized(initialized::countDown).build());
        cache.start();
        Suite.that(initialized.await(30, TimeUnit.SECONDS), "initialized");
        Suite.same(Map.of("/cache", "", "/cache/a", "1"), contents(cache));
        clients.get(1).setData().forPath("/cache/a", Suite.bytes("2"));
        put(clients.get(2), "/cache/a/b", "3");
        Suite.await(
                "the changes",
                () -> contents(cache).equals(Map.of("/cache", "", "/cache/a", "2", "/cache/a/b", "3")));
        clients.get(1).delete().deletingChildrenIfNeeded().forPath("/cache/a");
        Suite.await("the deletion", () -> contents(cache).equals(Map.of("/cache", "")));
    }

    private static void treeCache(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        put(clients.get(1), "/tree/a/b", "1");
        TreeCache cache = suite.closing(new TreeCache(clients.get(0), "/tree"));
        cache.start();
        Suite.await("the copy", () -> cache.getCurrentData("/tree/a/b") != null);
        clients.get(1).setData().forPath("/tree/a/b", Suite.bytes("2"));
        put(clients.get(2), "/tree/a/c", "3");
        Suite.await(
                "the changes",
                () ->
                        Suite.text(cache.getCurrentData("/tree/a/b").getData()).equals("2")
                                && cache.getCurrentChildren("/tree/a").keySet().equals(Set.of("b", "c")));
        clients.get(1).delete().forPath("/tree/a/b");
        Suite.await("the deletion", () -> cache.getCurrentData("/tree/a/b") == null);
    }

    private static void pathChildrenCache(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        put(clients.get(1), "/dir/a", "1");
        PathChildrenCache cache = suite.closing(new PathChildrenCache(clients.get(0), "/dir", true));
        cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        Suite.same(1, cache.getCurrentData().size());
        put(clients.get(1), "/dir/b", "2");
        clients.get(2).setData().forPath("/dir/a", Suite.bytes("3"));
        Suite.await(
                "the changes",
                () ->
                        cache.getCurrentData().stream()
                                .map((ChildData data) -> data.getPath() + Suite.text(data.getData()))
                                .sorted()
                                .collect(toList())
                                .equals(List.of("/dir/a3", "/dir/b2")));
    }

    private static void cacheOfAKilledServer(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        put(client, "/cache/gone", "1");
        put(client, "/cache/stays", "1");
        CuratorCache cache = suite.closing(CuratorCache.build(client, "/cache"));
        cache.start();
        Suite.await("the copy", () -> contents(cache).size() == 3);
        int server = Suite.serverOf(client);
        CuratorFramework other = suite.client(Suite.SERVERS[server % Suite.SERVERS.length]);
        other.blockUntilConnected();
        Suite.kill(server);
        // Made while the client is away: nobody tells it of these, it has to look again.
        other.delete().forPath("/cache/gone");
        put(other, "/cache/new", "2");
        Suite.await(
                "the present state",
                () ->
                        contents(cache).keySet().equals(Set.of("/cache", "/cache/stays", "/cache/new")));
    }

    private static void atomicLong(Suite suite) throws Exception {
        List<Callable<Void>> works = new ArrayList<>();
        for (CuratorFramework client : clients(suite)) {
            DistributedAtomicLong counter = new DistributedAtomicLong(client, "/long", new RetryNTimes(10_000, 1));
            works.add(
                    () -> {
                        for (int n = 0; n < 20; n++) {
                            Suite.that(counter.increment().succeeded(), "incremented");
                        }
                        return null;
                    });
        }
        together(works);
        CuratorFramework reader = suite.client();
        reader.sync().forPath("/long");
        Suite.same(60L, new DistributedAtomicLong(reader, "/long", new RetryNTimes(1, 1)).get().postValue());
    }

    private static void sharedCount(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        SharedCount one = suite.closing(new SharedCount(clients.get(0), "/count", 5));
        SharedCount two = suite.closing(new SharedCount(clients.get(1), "/count", 5));
        one.start();
        two.start();
        Suite.that(one.trySetCount(one.getVersionedValue(), 6), "set");
        Suite.await("the other sees it", () -> two.getCount() == 6);
    }

    private static void persistentNode(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        PersistentNode node =
                suite.closing(
                        new PersistentNode(clients.get(0), CreateMode.EPHEMERAL, false, "/node", Suite.bytes("x")));
        node.start();
        Suite.that(node.waitForInitialCreate(30, TimeUnit.SECONDS), "created");
        clients.get(1).sync().forPath("/node");
        clients.get(1).delete().forPath("/node");
        Suite.await("that it comes back", () -> clients.get(1).checkExists().forPath("/node") != null);
    }

    private static void persistentTtlNode(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        PersistentTtlNode node =
                suite.closing(new PersistentTtlNode(clients.get(0), "/lived", 2_000, Suite.bytes("x")));
        node.start();
        Suite.that(node.waitForInitialCreate(30, TimeUnit.SECONDS), "created");
        clients.get(1).sync().forPath("/lived");
        Suite.await("that it is touched", () -> clients.get(1).checkExists().forPath("/lived/touch") != null);
    }

    private static void groupMember(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        GroupMember one = suite.closing(new GroupMember(clients.get(0), "/group", "one"));
        GroupMember two = new GroupMember(clients.get(1), "/group", "two");
        one.start();
        two.start();
        Suite.await("both", () -> one.getCurrentMembers().keySet().equals(Set.of("one", "two")));
        two.close();
        Suite.await("one", () -> one.getCurrentMembers().keySet().equals(Set.of("one")));
    }

    private static void barriers(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        DistributedBarrier barrier = new DistributedBarrier(clients.get(0), "/barrier");
        barrier.setBarrier();
        DistributedBarrier waiter = new DistributedBarrier(clients.get(1), "/barrier");
        clients.get(1).sync().forPath("/barrier");
        Suite.that(!waiter.waitOnBarrier(100, TimeUnit.MILLISECONDS), "the barrier holds");
        barrier.removeBarrier();
        Suite.that(waiter.waitOnBarrier(30, TimeUnit.SECONDS), "the barrier is open");
        Set<String> inside = Collections.synchronizedSet(new ConcurrentSkipListSet<>());
        List<Callable<Void>> works = new ArrayList<>();
        for (CuratorFramework client : clients) {
            works.add(
                    () -> {
                        DistributedDoubleBarrier both = new DistributedDoubleBarrier(client, "/double", 3);
                        Suite.that(both.enter(30, TimeUnit.SECONDS), "entered");
                        inside.add(Thread.currentThread().getName());
                        Suite.await("all", () -> inside.size() == 3);
                        Suite.that(both.leave(30, TimeUnit.SECONDS), "left");
                        return null;
                    });
        }
        together(works);
    }

    private static void queue(Suite suite) throws Exception {
        List<CuratorFramework> clients = clients(suite);
        SimpleDistributedQueue producer = new SimpleDistributedQueue(clients.get(0), "/queue");
        for (int n = 0; n < 30; n++) {
            producer.offer(Suite.bytes("" + n));
        }
        ConcurrentLinkedQueue<Integer> got = new ConcurrentLinkedQueue<>();
        List<Callable<Void>> works = new ArrayList<>();
        for (CuratorFramework client : clients) {
            SimpleDistributedQueue consumer = new SimpleDistributedQueue(client, "/queue");
            client.sync().forPath("/queue");
            works.add(
                    () -> {
                        for (byte[] entry; (entry = consumer.poll()) != null; ) {
                            got.add(Integer.parseInt(Suite.text(entry)));
                        }
                        return null;
                    });
        }
        together(works);
        Suite.same(30, got.size());
        Suite.same(30, Set.copyOf(got).size());
    }
}

import static java.util.stream.Collectors.toList;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.api.transaction.OperationType;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.data.Stat;

/** Curator's framework: znodes, transactions, watches, and what it does when a server is killed. */
final class Framework {
    static void add(Map<String, Suite.Test> tests) {
        tests.put("every create mode makes its kind of znode", Framework::createModes);
        tests.put("a znode is read, set and deleted by version", Framework::versions);
        tests.put("a protected create finds its own znode", Framework::protectedCreate);
        tests.put("a transaction does all or nothing and says which op failed", Framework::transactions);
        tests.put("watchers and background calls are answered", Framework::watchersAndBackground);
        tests.put("persistent watches stay and tell of whole subtrees", Framework::persistentWatches);
        tests.put("a digest is an identity", Framework::accessControl);
        tests.put("a client that was given one server learns of the others", Framework::ensemble);
        tests.put("a container goes when its last child has gone", Framework::containers);
        tests.put("a znode with a time to live goes by itself", Framework::timeToLive);
        tests.put("a client of a killed server reconnects with its session and its watches", Framework::killed);
    }

    private static void createModes(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        Suite.same("/a/b", client.create().creatingParentsIfNeeded().forPath("/a/b", Suite.bytes("x")));
        Suite.same("/s-0000000001", client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/s-"));
        Suite.same("/e", client.create().withMode(CreateMode.EPHEMERAL).forPath("/e"));
        Suite.same(
                "/es-0000000003", client.create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/es-"));
        Suite.same("/c", client.create().withMode(CreateMode.CONTAINER).forPath("/c"));
        Suite.same(
                "/t", client.create().withTtl(60_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/t"));
        Suite.same(
                "/ts-0000000006",
                client.create()
                        .withTtl(60_000)
                        .withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL)
                        .forPath("/ts-"));
        Stat stat = new Stat();
        client.create().storingStatIn(stat).withMode(CreateMode.EPHEMERAL).forPath("/with-stat", Suite.bytes("four"));
        Suite.same(4, stat.getDataLength());
        Suite.same(client.getZookeeperClient().getZooKeeper().getSessionId(), stat.getEphemeralOwner());
        Suite.same(client.checkExists().forPath("/with-stat"), stat);
        List<String> names = client.getChildren().forPath("/").stream().sorted().collect(toList());
        Suite.same(
                List.of("a", "c", "e", "es-0000000003", "s-0000000001", "t", "ts-0000000006", "with-stat"), names);
    }

    private static void versions(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        client.create().forPath("/v", Suite.bytes("0"));
        Stat stat = new Stat();
        Suite.same("0", Suite.text(client.getData().storingStatIn(stat).forPath("/v")));
        Suite.same(0, stat.getVersion());
        Suite.same(1, client.setData().withVersion(0).forPath("/v", Suite.bytes("1")).getVersion());
        Suite.refused(
                KeeperException.BadVersionException.class,
                () -> client.setData().withVersion(0).forPath("/v", Suite.bytes("2")));
        Suite.refused(
                KeeperException.BadVersionException.class, () -> client.delete().withVersion(0).forPath("/v"));
        Suite.refused(KeeperException.NodeExistsException.class, () -> client.create().forPath("/v"));
        Suite.refused(KeeperException.NoNodeException.class, () -> client.getData().forPath("/none"));
        client.delete().withVersion(1).forPath("/v");
        Suite.same(null, client.checkExists().forPath("/v"));
        client.createContainers("/deep/er/still");
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath("/deep");
        Suite.same(null, client.checkExists().forPath("/deep"));
    }

    private static void protectedCreate(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        String path =
                client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/lock-");
        Suite.that(path.startsWith("/_c_") && path.endsWith("-lock-0000000000"), path);
        Suite.that(client.checkExists().forPath(path) != null, path);
        client.create().orSetData().forPath("/or-set", Suite.bytes("1"));
        client.create().orSetData().forPath("/or-set", Suite.bytes("2"));
        Suite.same("2", Suite.text(client.getData().forPath("/or-set")));
        client.create().idempotent().forPath("/idempotent", Suite.bytes("1"));
        client.create().idempotent().forPath("/idempotent", Suite.bytes("1"));
    }

    private static void transactions(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        client.create().forPath("/t", Suite.bytes("0"));
        List<CuratorTransactionResult> results =
                client.transaction()
                        .forOperations(
                                client.transactionOp().check().withVersion(0).forPath("/t"),
                                client.transactionOp().create().forPath("/t/a", Suite.bytes("x")),
                                client.transactionOp()
                                        .create()
                                        .withMode(CreateMode.PERSISTENT_SEQUENTIAL)
                                        .forPath("/t/s-"),
                                client.transactionOp().setData().withVersion(0).forPath("/t", Suite.bytes("1")),
                                client.transactionOp().delete().forPath("/t/a"));
        Suite.same(
                List.of(
                        OperationType.CHECK,
                        OperationType.CREATE,
                        OperationType.CREATE,
                        OperationType.SET_DATA,
                        OperationType.DELETE),
                results.stream().map(CuratorTransactionResult::getType).collect(toList()));
        Suite.same("/t/s-0000000001", results.get(2).getResultPath());
        Suite.same(1, results.get(3).getResultStat().getVersion());
        Suite.same(1, results.get(3).getResultStat().getNumChildren() - 1);
        try {
            client.transaction()
                    .forOperations(
                            client.transactionOp().setData().forPath("/t", Suite.bytes("2")),
                            client.transactionOp().delete().forPath("/missing"),
                            client.transactionOp().create().forPath("/t/b"));
            throw new AssertionError("the transaction was not refused");
        } catch (KeeperException.NoNodeException refused) {
            List<Integer> codes =
                    refused.getResults().stream()
                            .map(result -> ((org.apache.zookeeper.OpResult.ErrorResult) result).getErr())
                            .collect(toList());
            Suite.same(List.of(0, -101, -2), codes);
        }
        Suite.same("1", Suite.text(client.getData().forPath("/t")));
    }

    private static void watchersAndBackground(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        CuratorFramework other = suite.client();
        ConcurrentLinkedQueue<String> events = new ConcurrentLinkedQueue<>();
        client.create().forPath("/w");
        client.getData()
                .usingWatcher(
                        (org.apache.curator.framework.api.CuratorWatcher)
                                event -> events.add(event.getType() + " " + event.getPath()))
                .forPath("/w");
        other.setData().forPath("/w", Suite.bytes("1"));
        Suite.await("the event", () -> events.contains("NodeDataChanged /w"));
        CountDownLatch answered = new CountDownLatch(100);
        for (int n = 0; n < 100; n++) {
            client.create().inBackground((c, event) -> answered.countDown()).forPath("/w/" + n);
        }
        Suite.that(answered.await(30, TimeUnit.SECONDS), "background creates are answered");
        Suite.same(100, client.getChildren().forPath("/w").size());
        CountDownLatch synced = new CountDownLatch(1);
        client.sync().inBackground((c, event) -> synced.countDown()).forPath("/w");
        Suite.that(synced.await(30, TimeUnit.SECONDS), "sync is answered");
    }

    private static void persistentWatches(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        CuratorFramework other = suite.client();
        ConcurrentLinkedQueue<String> events = new ConcurrentLinkedQueue<>();
        client.create().forPath("/w");
        client.watchers()
                .add()
                .withMode(AddWatchMode.PERSISTENT_RECURSIVE)
                .usingWatcher(
                        (org.apache.curator.framework.api.CuratorWatcher)
                                event -> events.add(event.getType() + " " + event.getPath()))
                .forPath("/w");
        other.create().creatingParentsIfNeeded().forPath("/w/a/b");
        other.setData().forPath("/w/a/b", Suite.bytes("1"));
        other.setData().forPath("/w", Suite.bytes("1"));
        other.delete().forPath("/w/a/b");
        List<String> expected =
                List.of(
                        "NodeCreated /w/a",
                        "NodeCreated /w/a/b",
                        "NodeDataChanged /w/a/b",
                        "NodeDataChanged /w",
                        "NodeDeleted /w/a/b");
        Suite.await("five events", () -> events.size() >= 5);
        Suite.same(expected, List.copyOf(events));
        client.watchers().removeAll().forPath("/w");
        other.setData().forPath("/w", Suite.bytes("2"));
        client.sync().forPath("/w");
        client.getData().forPath("/w");
        long changes = events.stream().filter(event -> event.startsWith("NodeDataChanged")).count();
        Suite.same(2L, changes);
    }

    private static void accessControl(Suite suite) throws Exception {
        CuratorFramework owner =
                suite.closing(
                        CuratorFrameworkFactory.builder()
                                .connectString(Suite.ALL)
                                .retryPolicy(new RetryForever(20))
                                .authorization("digest", Suite.bytes("owner:secret"))
                                .namespace(suite.root)
                                .build());
        owner.start();
        CuratorFramework stranger = suite.client();
        owner.create().withACL(ZooDefs.Ids.CREATOR_ALL_ACL).forPath("/mine", Suite.bytes("x"));
        Suite.same("x", Suite.text(owner.getData().forPath("/mine")));
        // It is on its way before the read that follows, which waits behind it.
        stranger.sync().forPath("/mine");
        Suite.refused(KeeperException.NoAuthException.class, () -> stranger.getData().forPath("/mine"));
        Suite.refused(KeeperException.NoAuthException.class, () -> stranger.setData().forPath("/mine"));
        Suite.same("digest", owner.getACL().forPath("/mine").get(0).getId().getScheme());
        owner.setACL().withACL(ZooDefs.Ids.OPEN_ACL_UNSAFE).forPath("/mine");
        stranger.sync().forPath("/mine");
        Suite.same("x", Suite.text(stranger.getData().forPath("/mine")));
    }

    private static void ensemble(Suite suite) throws Exception {
        CuratorFramework client = suite.client(Suite.SERVERS[0]);
        // It reads /zookeeper/config, and connects from then on to what stands there.
        Suite.await("all members", () -> client.getCurrentConfig().getVotingMembers().size() == 3);
        Suite.await(
                "their addresses",
                () ->
                        Set.of(client.getZookeeperClient().getCurrentConnectionString().split(","))
                                .equals(Set.of(Suite.SERVERS)));
    }

    private static void containers(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        client.create().withMode(CreateMode.CONTAINER).forPath("/box");
        client.create().forPath("/box/child");
        client.delete().forPath("/box/child");
        Suite.await("that the container goes", () -> client.checkExists().forPath("/box") == null);
    }

    private static void timeToLive(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        client.create().withTtl(500).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/short");
        client.create().withTtl(600_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/long");
        Suite.await("that its time is over", () -> client.checkExists().forPath("/short") == null);
        Suite.that(client.checkExists().forPath("/long") != null, "the other one stays");
    }

    private static void killed(Suite suite) throws Exception {
        CuratorFramework client = suite.client();
        ConcurrentLinkedQueue<ConnectionState> states = new ConcurrentLinkedQueue<>();
        ConcurrentLinkedQueue<String> events = new ConcurrentLinkedQueue<>();
        client.getConnectionStateListenable().addListener((c, state) -> states.add(state));
        client.create().withMode(CreateMode.EPHEMERAL).forPath("/e", Suite.bytes("0"));
        client.getData()
                .usingWatcher((org.apache.curator.framework.api.CuratorWatcher) event -> events.add(event.getType() + ""))
                .forPath("/e");
        long session = client.getZookeeperClient().getZooKeeper().getSessionId();
        int server = Suite.serverOf(client);
        int another = server % Suite.SERVERS.length + 1;
        CuratorFramework other = suite.client(Suite.SERVERS[another - 1]);
        other.blockUntilConnected();
        Suite.kill(server);
        Suite.await("that the loss is noticed", () -> states.contains(ConnectionState.SUSPENDED));
        other.setData().forPath("/e", Suite.bytes("1"));
        Suite.await("the reconnection", () -> states.contains(ConnectionState.RECONNECTED));
        // The client asks what it has missed (setWatches), and is told.
        Suite.await("the event of the change meanwhile", () -> events.contains("NodeDataChanged"));
        Suite.same("1", Suite.text(client.getData().forPath("/e")));
        Suite.same(session, client.getZookeeperClient().getZooKeeper().getSessionId());
        Suite.that(!states.contains(ConnectionState.LOST), "the session lives: " + states);
    }
}

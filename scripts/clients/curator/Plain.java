import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** What ZooKeeper's own Java client can do and Curator does not show: order, reads in a multi, watches by kind. */
final class Plain {
    static void add(Map<String, Suite.Test> tests) {
        tests.put("the event of a write comes before its answer", Plain::eventBeforeAnswer);
        tests.put("a multi of reads answers each by itself", Plain::multiRead);
        tests.put("watches are removed by kind", Plain::removeWatches);
        tests.put("ephemerals and descendants are counted", Plain::counts);
        tests.put("a session is expired when its id is closed elsewhere", Plain::expired);
        tests.put("a session goes on with another client by id and password", Plain::reattached);
        tests.put("the client knows who it is", Plain::whoAmI);
    }

    private static ZooKeeper connect(Suite suite, Watcher watcher) throws Exception {
        ZooKeeper client = new ZooKeeper(Suite.ALL, Suite.SESSION_MS, watcher);
        suite.closing(client);
        Suite.await("the connection", () -> client.getState().isConnected());
        return client;
    }

    private static ZooKeeper connect(Suite suite) throws Exception {
        ZooKeeper client = connect(suite, event -> {});
        String root = "/" + suite.root;
        if (client.exists(root, false) == null) {
            client.create(root, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        return client;
    }

    private static String create(ZooKeeper client, String path) throws Exception {
        return client.create(path, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static void eventBeforeAnswer(Suite suite) throws Exception {
        ZooKeeper client = connect(suite);
        String path = create(client, "/" + suite.root + "/order");
        // Events and answers of one client are called from one thread, in the order in which they arrived.
        for (int n = 0; n < 200; n++) {
            List<String> order = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch both = new CountDownLatch(2);
            Watcher watcher =
                    event -> {
                        order.add("event");
                        both.countDown();
                    };
            client.getData(path, watcher, null);
            client.setData(
                    path,
                    Suite.bytes("" + n),
                    -1,
                    (code, p, context, stat) -> {
                        order.add("answer");
                        both.countDown();
                    },
                    null);
            Suite.that(both.await(30, TimeUnit.SECONDS), "event and answer");
            Suite.same(List.of("event", "answer"), order);
        }
    }

    private static void multiRead(Suite suite) throws Exception {
        ZooKeeper client = connect(suite);
        String path = create(client, "/" + suite.root + "/m");
        create(client, path + "/c");
        List<OpResult> results =
                client.multi(List.of(Op.getData(path), Op.getChildren(path), Op.getData(path + "/no"), Op.getData(path)));
        Suite.same(0, ((OpResult.GetDataResult) results.get(0)).getStat().getVersion());
        Suite.same(List.of("c"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
        Suite.same(KeeperException.Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
        Suite.that(results.get(3) instanceof OpResult.GetDataResult, "a failed read stops no other");
    }

    private static void removeWatches(Suite suite) throws Exception {
        ZooKeeper client = connect(suite);
        String path = create(client, "/" + suite.root + "/w");
        ConcurrentLinkedQueue<String> events = new ConcurrentLinkedQueue<>();
        Watcher watcher = event -> events.add(event.getType().toString());
        client.getData(path, watcher, null);
        client.getChildren(path, watcher);
        client.removeWatches(path, watcher, Watcher.WatcherType.Children, false);
        Suite.await("the word that it is removed", () -> events.contains("ChildWatchRemoved"));
        create(client, path + "/c");
        client.setData(path, Suite.bytes("1"), -1);
        Suite.await("the other", () -> events.contains("NodeDataChanged"));
        Suite.that(!events.contains("NodeChildrenChanged"), events.toString());
        Suite.refused(
                KeeperException.NoWatcherException.class,
                () -> {
                    client.removeWatches(path, watcher, Watcher.WatcherType.Any, false);
                    return null;
                });
    }

    private static void counts(Suite suite) throws Exception {
        ZooKeeper client = connect(suite);
        String path = create(client, "/" + suite.root + "/n");
        create(client, path + "/a");
        create(client, path + "/a/b");
        client.create(path + "/e", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Suite.same(3, client.getAllChildrenNumber(path));
        Suite.same(List.of(path + "/e"), client.getEphemerals(path));
        Suite.same(List.of(), connect(suite).getEphemerals());
    }

    private static void expired(Suite suite) throws Exception {
        ConcurrentLinkedQueue<Watcher.Event.KeeperState> states = new ConcurrentLinkedQueue<>();
        ZooKeeper client = connect(suite, event -> states.add(event.getState()));
        ZooKeeper other = connect(suite);
        String path = "/" + suite.root + "/e";
        client.create(path, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        ZooKeeper twin =
                new ZooKeeper(
                        Suite.ALL, Suite.SESSION_MS, event -> {}, client.getSessionId(), client.getSessionPasswd());
        Suite.await("the twin", () -> twin.getState().isConnected());
        twin.close();
        Suite.await("the expiry", () -> states.contains(Watcher.Event.KeeperState.Expired));
        Suite.refused(KeeperException.SessionExpiredException.class, () -> client.exists(path, false));
        CountDownLatch synced = new CountDownLatch(1);
        other.sync(path, (code, p, context) -> synced.countDown(), null);
        Suite.that(synced.await(30, TimeUnit.SECONDS), "sync");
        Suite.same(null, other.exists(path, false));
    }

    private static void reattached(Suite suite) throws Exception {
        connect(suite).close();
        String path = "/" + suite.root + "/e";
        ZooKeeper client = suite.closing(new ZooKeeper(Suite.SERVERS[0], Suite.SESSION_MS, event -> {}));
        Suite.await("the connection", () -> client.getState().isConnected());
        client.create(path, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        // Two living clients of one session would take it from each other.
        Suite.kill(1);
        ZooKeeper twin =
                suite.closing(
                        new ZooKeeper(
                                Suite.SERVERS[1] + "," + Suite.SERVERS[2],
                                Suite.SESSION_MS,
                                event -> {},
                                client.getSessionId(),
                                client.getSessionPasswd()));
        Suite.await("the twin", () -> twin.getState().isConnected());
        Suite.same(client.getSessionId(), twin.getSessionId());
        Suite.same(twin.getSessionId(), twin.exists(path, false).getEphemeralOwner());
        Suite.same(List.of(path), twin.getEphemerals(path));
    }

    private static void whoAmI(Suite suite) throws Exception {
        ZooKeeper client = connect(suite);
        client.addAuthInfo("digest", Suite.bytes("me:mine"));
        List<String> who = new ArrayList<>();
        client.whoAmI().forEach(info -> who.add(info.getAuthScheme() + ":" + info.getUser()));
        Collections.sort(who);
        Suite.same(List.of("digest:me", "ip:127.0.0.1"), who);
    }
}

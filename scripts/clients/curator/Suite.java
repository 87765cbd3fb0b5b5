import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryForever;

/**
 * Runs the tests of Curator and of ZooKeeper's own Java client against the ensemble that the environment names, one
 * after the other. The last line is `N passed, N failed`; arguments choose tests by parts of their names.
 */
public final class Suite {
    static final String[] SERVERS = System.getenv("ROOST_ZK").split(",");
    static final String ALL = System.getenv("ROOST_ZK");
    static final int SESSION_MS = 8_000;
    /** How long anything may take before a test calls it lost. Nothing is expected to take this long. */
    static final int PATIENCE_MS = 30_000;

    interface Test {
        void run(Suite suite) throws Exception;
    }

    private final List<AutoCloseable> open = new ArrayList<>();
    /** The root below which one test has its znodes. */
    final String root = "test-" + Long.toHexString(System.nanoTime());

    public static void main(String[] args) {
        Map<String, Test> tests = new LinkedHashMap<>();
        Framework.add(tests);
        Recipes.add(tests);
        Discovery.add(tests);
        Plain.add(tests);
        int passed = 0;
        int failed = 0;
        for (Map.Entry<String, Test> test : tests.entrySet()) {
            if (args.length > 0 && List.of(args).stream().noneMatch(test.getKey()::contains)) {
                continue;
            }
            long began = System.nanoTime();
            Throwable failure = attempt(test.getValue());
            String took = String.format("(%.1f s)", (System.nanoTime() - began) / 1e9);
            if (failure == null) {
                passed++;
                System.out.println("ok " + test.getKey() + " " + took);
            } else {
                failed++;
                System.out.println("FAILED " + test.getKey() + " " + took);
                failure.printStackTrace(System.out);
            }
        }
        System.out.println(passed + " passed, " + failed + " failed");
        // A recipe may leave a thread behind that is no daemon.
        System.exit(failed == 0 && passed > 0 ? 0 : 1);
    }

    private static Throwable attempt(Test test) {
        Suite suite = new Suite();
        Throwable failure = null;
        try {
            test.run(suite);
        } catch (Throwable thrown) {
            failure = thrown;
        }
        try {
            suite.cleanUp();
        } catch (Throwable thrown) {
            failure = failure == null ? thrown : failure;
        }
        return failure;
    }

    /** Returns a started client of all servers, whose paths are below the test's root. */
    CuratorFramework client() {
        return client(ALL);
    }

    CuratorFramework client(String servers) {
        CuratorFramework client =
                CuratorFrameworkFactory.builder()
                        .connectString(servers)
                        .sessionTimeoutMs(SESSION_MS)
                        .connectionTimeoutMs(PATIENCE_MS)
                        .retryPolicy(new RetryForever(20))
                        .namespace(root)
                        .build();
        client.start();
        return closing(client);
    }

    /** Takes note of something that is closed when the test ends, the last one first. */
    <T extends AutoCloseable> T closing(T thing) {
        open.add(0, thing);
        return thing;
    }

    private void cleanUp() throws Exception {
        startAll();
        try (CuratorFramework cleaner =
                CuratorFrameworkFactory.newClient(ALL, SESSION_MS, PATIENCE_MS, new RetryForever(20))) {
            for (AutoCloseable thing : open) {
                thing.close();
            }
            cleaner.start();
            // The root is a container, so it may go by itself meanwhile.
            cleaner.delete().quietly().deletingChildrenIfNeeded().forPath("/" + root);
        }
    }

    /** Returns the number of the server that a client is connected to, by the address of its socket. */
    static int serverOf(CuratorFramework client) throws Exception {
        // The socket's address is not public in the client, but its description has it.
        String described = client.getZookeeperClient().getZooKeeper().toString();
        String remote = described.replaceAll("(?s).*remoteserver:[^/]*/(\\S+) .*", "$1");
        int index = List.of(SERVERS).indexOf(remote);
        if (index >= 0) {
            return index + 1;
        }
        throw new AssertionError("not connected: " + described);
    }

    static void kill(int server) throws IOException {
        control("POST", "/kill?server=" + server);
    }

    static void startAll() throws IOException {
        for (String verb : List.of("spawn", "start")) {
            for (int server = 1; server <= SERVERS.length; server++) {
                control("POST", "/" + verb + "?server=" + server);
            }
        }
    }

    private static String control(String method, String request) throws IOException {
        URI uri = URI.create("http://" + System.getenv("ROOST_CONTROL") + request);
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setRequestMethod(method);
        connection.setReadTimeout(90_000);
        try (var answer = connection.getInputStream()) {
            return new String(answer.readAllBytes(), StandardCharsets.UTF_8).trim();
        }
    }

    static void await(String what, Callable<Boolean> condition) throws Exception {
        long ends = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(PATIENCE_MS);
        while (!condition.call()) {
            if (System.nanoTime() > ends) {
                throw new AssertionError("not within " + PATIENCE_MS + " ms: " + what);
            }
            Thread.sleep(5);
        }
    }

    static void same(Object expected, Object got) {
        if (!Objects.equals(expected, got)) {
            throw new AssertionError("expected " + expected + ", got " + got);
        }
    }

    static void that(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** Asserts that an attempt is refused by an exception of this kind. */
    static void refused(Class<? extends Exception> kind, Callable<?> attempt) throws Exception {
        try {
            attempt.call();
        } catch (Exception thrown) {
            if (kind.isInstance(thrown)) {
                return;
            }
            throw thrown;
        }
        throw new AssertionError("was not refused with " + kind.getSimpleName());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}

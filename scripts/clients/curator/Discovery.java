import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;

/** Curator's service discovery, which Spring Cloud and others build on. */
final class Discovery {
    static void add(Map<String, Suite.Test> tests) {
        tests.put("services are registered, found, changed and gone", Discovery::lifecycle);
        tests.put("a service cache follows and outlives a killed server", Discovery::cache);
    }

    private static ServiceInstance<String> instance(String id, int port) throws Exception {
        return ServiceInstance.<String>builder()
                .name("web")
                .id(id)
                .address("10.0.0.1")
                .port(port)
                .payload("zone=a")
                .build();
    }

    private static ServiceDiscovery<String> discovery(Suite suite, CuratorFramework client) throws Exception {
        ServiceDiscovery<String> discovery =
                ServiceDiscoveryBuilder.builder(String.class).client(client).basePath("/discovery").build();
        discovery.start();
        return suite.closing(discovery);
    }

    private static void lifecycle(Suite suite) throws Exception {
        ServiceDiscovery<String> provider = discovery(suite, suite.client(Suite.SERVERS[0]));
        ServiceDiscovery<String> consumer = discovery(suite, suite.client(Suite.SERVERS[1]));
        provider.registerService(instance("one", 8001));
        provider.registerService(instance("two", 8002));
        Suite.await("both", () -> consumer.queryForInstances("web").size() == 2);
        Suite.same(Set.of("web"), Set.copyOf(consumer.queryForNames()));
        ServiceInstance<String> found = consumer.queryForInstance("web", "one");
        Suite.same(8001, found.getPort());
        Suite.same("zone=a", found.getPayload());
        provider.updateService(instance("one", 9001));
        Suite.await("the change", () -> consumer.queryForInstance("web", "one").getPort() == 9001);
        try (ServiceProvider<String> rotation =
                consumer.serviceProviderBuilder().serviceName("web").build()) {
            rotation.start();
            Suite.await("an instance", () -> rotation.getInstance() != null);
        }
        provider.unregisterService(instance("one", 9001));
        Suite.await("one", () -> consumer.queryForInstances("web").size() == 1);
        provider.close();
        Suite.await("none", () -> consumer.queryForInstances("web").isEmpty());
    }

    private static void cache(Suite suite) throws Exception {
        CuratorFramework watching = suite.client();
        ServiceDiscovery<String> consumer = discovery(suite, watching);
        ServiceCache<String> cache = suite.closing(consumer.serviceCacheBuilder().name("web").build());
        cache.start();
        ServiceDiscovery<String> provider = discovery(suite, suite.client());
        provider.registerService(instance("one", 8001));
        Suite.await("the first", () -> ids(cache).equals(Set.of("one")));
        Suite.kill(Suite.serverOf(watching));
        provider.registerService(instance("two", 8002));
        Suite.await("the second", () -> ids(cache).equals(Set.of("one", "two")));
    }

    private static Set<String> ids(ServiceCache<String> cache) {
        return cache.getInstances().stream().map(ServiceInstance::getId).collect(Collectors.toSet());
    }
}

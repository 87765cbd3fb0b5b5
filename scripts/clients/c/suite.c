/*
 * ZooKeeper's own C client, unmodified, against the ensemble that the environment names: synchronous calls, watches,
 * multi, access control, pipelining, reconnection. The last line is `N passed, N failed`.
 *
 * cc -DTHREADED -o suite suite.c -lzookeeper_mt
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <zookeeper/zookeeper.h>

#define SESSION_MS 6000
/* How long anything may take before a test calls it lost. Nothing is expected to take this long. */
#define PATIENCE_MS 30000
#define EVENTS_MAX 64

static int passed, failed;
static const char *test_name;
static int test_failed;

static void check(int holds, int line, const char *what) {
    if (!holds) {
        printf("%s:%d: does not hold: %s\n", test_name, line, what);
        test_failed = 1;
    }
}
#define CHECK(condition) check((condition), __LINE__, #condition)

static void same(int got, int expected, int line, const char *what) {
    if (got != expected) {
        printf("%s:%d: %s is %d (%s), expected %d\n", test_name, line, what, got, zerror(got), expected);
        test_failed = 1;
    }
}
#define SAME(got, expected) same((got), (expected), __LINE__, #got)

/* What a client was told, in order. */
struct events {
    pthread_mutex_t lock;
    int count;
    int types[EVENTS_MAX];
    char paths[EVENTS_MAX][128];
};

static void note(zhandle_t *client, int type, int state, const char *path, void *context) {
    struct events *events = context;
    (void)client;
    (void)state;
    pthread_mutex_lock(&events->lock);
    if (events->count < EVENTS_MAX) {
        events->types[events->count] = type;
        snprintf(events->paths[events->count], sizeof events->paths[0], "%s", path ? path : "");
        events->count++;
    }
    pthread_mutex_unlock(&events->lock);
}

static int count_of(struct events *events) {
    pthread_mutex_lock(&events->lock);
    int count = events->count;
    pthread_mutex_unlock(&events->lock);
    return count;
}

static void ignore(zhandle_t *client, int type, int state, const char *path, void *context) {
    (void)client, (void)type, (void)state, (void)path, (void)context;
}

static void pause_ms(int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

#define WAIT_FOR(condition)                                                    \
    do {                                                                       \
        int waited;                                                            \
        for (waited = 0; !(condition) && waited < PATIENCE_MS; waited += 5)    \
            pause_ms(5);                                                       \
        check(waited < PATIENCE_MS, __LINE__, "in time: " #condition);         \
    } while (0)

static zhandle_t *connect_to(const char *servers) {
    zhandle_t *client = zookeeper_init(servers, ignore, SESSION_MS, NULL, NULL, 0);
    WAIT_FOR(zoo_state(client) == ZOO_CONNECTED_STATE);
    return client;
}

static char root[64];

static const char *below(const char *name) {
    static char paths[8][128];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s%s", root, name);
    return path;
}

static int make(zhandle_t *client, const char *path, const char *data, int mode, char *made, int made_max) {
    return zoo_create(client, path, data, data ? (int)strlen(data) : -1, &ZOO_OPEN_ACL_UNSAFE, mode, made, made_max);
}

static void remove_below(zhandle_t *client, const char *path) {
    struct String_vector names = {0, NULL};
    if (zoo_get_children(client, path, 0, &names) == ZOK) {
        for (int n = 0; n < names.count; n++) {
            char child[256];
            snprintf(child, sizeof child, "%s/%s", path, names.data[n]);
            remove_below(client, child);
        }
        deallocate_String_vector(&names);
    }
    zoo_delete(client, path, -1);
}

static void znodes(zhandle_t *client) {
    char made[128], data[16];
    struct Stat stat;
    int length = sizeof data;
    SAME(make(client, below("/a"), "one", ZOO_PERSISTENT, made, sizeof made), ZOK);
    CHECK(strcmp(made, below("/a")) == 0);
    SAME(zoo_get(client, below("/a"), 0, data, &length, &stat), ZOK);
    CHECK(length == 3 && memcmp(data, "one", 3) == 0 && stat.version == 0 && stat.dataLength == 3);
    SAME(zoo_set2(client, below("/a"), "two", 3, 0, &stat), ZOK);
    SAME(stat.version, 1);
    SAME(zoo_set(client, below("/a"), "x", 1, 0), ZBADVERSION);
    SAME(make(client, below("/a"), "", ZOO_PERSISTENT, NULL, 0), ZNODEEXISTS);
    SAME(make(client, below("/no/parent"), "", ZOO_PERSISTENT, NULL, 0), ZNONODE);
    SAME(make(client, below("/s-"), "", ZOO_SEQUENCE, made, sizeof made), ZOK);
    CHECK(strcmp(made, below("/s-0000000001")) == 0);
    SAME(make(client, below("/none"), NULL, ZOO_PERSISTENT, NULL, 0), ZOK);
    length = sizeof data;
    SAME(zoo_get(client, below("/none"), 0, data, &length, &stat), ZOK);
    SAME(length, -1);
    struct String_vector names;
    SAME(zoo_get_children2(client, root, 0, &names, &stat), ZOK);
    CHECK(names.count == 3 && stat.numChildren == 3 && stat.cversion == 3);
    deallocate_String_vector(&names);
    SAME(zoo_delete(client, below("/a"), 7), ZBADVERSION);
    SAME(zoo_delete(client, below("/a"), 1), ZOK);
    SAME(zoo_exists(client, below("/a"), 0, &stat), ZNONODE);
    SAME(zoo_delete(client, root, -1), ZNOTEMPTY);
}

static void watches(zhandle_t *client) {
    struct events events = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct Stat stat;
    struct String_vector names;
    char data[16];
    int length = sizeof data;
    SAME(zoo_wexists(client, below("/w"), note, &events, &stat), ZNONODE);
    SAME(zoo_wget_children(client, root, note, &events, &names), ZOK);
    deallocate_String_vector(&names);
    SAME(make(client, below("/w"), "0", ZOO_PERSISTENT, NULL, 0), ZOK);
    WAIT_FOR(count_of(&events) == 2);
    SAME(events.types[0], ZOO_CREATED_EVENT);
    SAME(events.types[1], ZOO_CHILD_EVENT);
    SAME(zoo_wget(client, below("/w"), note, &events, data, &length, &stat), ZOK);
    SAME(zoo_set(client, below("/w"), "1", 1, -1), ZOK);
    WAIT_FOR(count_of(&events) == 3);
    SAME(zoo_wexists(client, below("/w"), note, &events, &stat), ZOK);
    SAME(zoo_delete(client, below("/w"), -1), ZOK);
    WAIT_FOR(count_of(&events) == 4);
    SAME(events.types[2], ZOO_CHANGED_EVENT);
    SAME(events.types[3], ZOO_DELETED_EVENT);
    CHECK(strcmp(events.paths[3], below("/w")) == 0);
}

static void multis(zhandle_t *client) {
    char made[128];
    struct Stat stat;
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    zoo_create_op_init(&ops[0], below("/m"), "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    zoo_check_op_init(&ops[1], below("/m"), 0);
    zoo_set_op_init(&ops[2], below("/m"), "yy", 2, 0, &stat);
    zoo_create_op_init(&ops[3], below("/m/c"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    SAME(zoo_multi(client, 4, ops, results), ZOK);
    CHECK(strcmp(made, below("/m")) == 0 && stat.version == 1 && stat.dataLength == 2);
    zoo_set_op_init(&ops[0], below("/m"), "z", 1, -1, &stat);
    zoo_delete_op_init(&ops[1], below("/missing"), -1);
    zoo_delete_op_init(&ops[2], below("/m/c"), -1);
    SAME(zoo_multi(client, 3, ops, results), ZNONODE);
    SAME(results[0].err, ZOK);
    SAME(results[1].err, ZNONODE);
    SAME(results[2].err, ZRUNTIMEINCONSISTENCY);
    SAME(zoo_exists(client, below("/m"), 0, &stat), ZOK);
    SAME(stat.version, 1);
}

static void authorized(int code, const void *context) {
    atomic_store((atomic_int *)context, code == ZOK ? 1 : -1);
}

static void access_control(zhandle_t *client) {
    atomic_int done = 0;
    zhandle_t *stranger = connect_to(getenv("ROOST_ZK"));
    SAME(zoo_add_auth(client, "digest", "me:mine", 7, authorized, &done), ZOK);
    WAIT_FOR(atomic_load(&done) == 1);
    SAME(zoo_create(client, below("/mine"), "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0), ZOK);
    char data[16];
    int length = sizeof data;
    /* Another server may be behind. */
    WAIT_FOR(zoo_get(stranger, below("/mine"), 0, data, &length, NULL) != ZNONODE);
    SAME(zoo_get(stranger, below("/mine"), 0, data, &length, NULL), ZNOAUTH);
    SAME(zoo_set(stranger, below("/mine"), "y", 1, -1), ZNOAUTH);
    struct ACL_vector acl;
    struct Stat stat;
    SAME(zoo_get_acl(client, below("/mine"), &acl, &stat), ZOK);
    CHECK(acl.count == 1 && strcmp(acl.data[0].id.scheme, "digest") == 0 && acl.data[0].perms == ZOO_PERM_ALL);
    deallocate_ACL_vector(&acl);
    SAME(zoo_set_acl(client, below("/mine"), 0, &ZOO_OPEN_ACL_UNSAFE), ZOK);
    SAME(zoo_set(stranger, below("/mine"), "y", 1, -1), ZOK); /* a write is never behind */
    zookeeper_close(stranger);
}

static void ephemerals(zhandle_t *client) {
    struct events events = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct Stat stat;
    zhandle_t *provider = connect_to(getenv("ROOST_ZK"));
    SAME(make(provider, below("/e"), "", ZOO_EPHEMERAL, NULL, 0), ZOK);
    WAIT_FOR(zoo_wexists(client, below("/e"), note, &events, &stat) == ZOK);
    CHECK(stat.ephemeralOwner == zoo_client_id(provider)->client_id);
    SAME(make(provider, below("/e/child"), "", ZOO_PERSISTENT, NULL, 0), ZNOCHILDRENFOREPHEMERALS);
    zookeeper_close(provider);
    WAIT_FOR(count_of(&events) >= 1);
    WAIT_FOR(zoo_exists(client, below("/e"), 0, &stat) == ZNONODE);
}

#define PIPELINED 1000
struct answers {
    atomic_int count;
    int versions[PIPELINED];
};

static void answered(int code, const struct Stat *stat, const void *context) {
    struct answers *answers = (struct answers *)context;
    int at = atomic_load(&answers->count);
    answers->versions[at] = code == ZOK ? stat->version : code;
    atomic_store(&answers->count, at + 1);
}

static void pipelining(zhandle_t *client) {
    struct answers answers = {0};
    SAME(make(client, below("/p"), "", ZOO_PERSISTENT, NULL, 0), ZOK);
    for (int n = 0; n < PIPELINED; n++)
        SAME(zoo_aset(client, below("/p"), "x", 1, -1, answered, &answers), ZOK);
    WAIT_FOR(atomic_load(&answers.count) == PIPELINED);
    for (int n = 0; n < PIPELINED; n++)
        SAME(answers.versions[n], n + 1);
}

/* Asks whoever runs the servers; there is no HTTP client in C's own library. */
static int control(const char *request, int server) {
    char command[256];
    snprintf(command, sizeof command, "curl -sf -o /dev/null -X POST 'http://%s/%s?server=%d'", getenv("ROOST_CONTROL"),
             request, server);
    return system(command);
}

static void killed(zhandle_t *unused) {
    char servers[256];
    struct events events = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct Stat stat;
    char data[16];
    int length = sizeof data;
    (void)unused;
    snprintf(servers, sizeof servers, "%s", getenv("ROOST_ZK"));
    zoo_deterministic_conn_order(1);
    zhandle_t *client = connect_to(servers);
    zhandle_t *other = connect_to(strchr(servers, ',') + 1);
    int64_t session = zoo_client_id(client)->client_id;
    SAME(make(client, below("/e"), "0", ZOO_EPHEMERAL, NULL, 0), ZOK);
    SAME(zoo_wget(client, below("/e"), note, &events, data, &length, &stat), ZOK);
    SAME(control("kill", 1), 0);
    /* The first server of the list is the one that this client is connected to. */
    WAIT_FOR(zoo_set(other, below("/e"), "1", 1, -1) == ZOK);
    WAIT_FOR(zoo_state(client) == ZOO_CONNECTED_STATE && zoo_exists(client, below("/e"), 0, &stat) == ZOK);
    CHECK(zoo_client_id(client)->client_id == session && stat.ephemeralOwner == session);
    WAIT_FOR(count_of(&events) >= 1 && events.types[count_of(&events) - 1] == ZOO_CHANGED_EVENT);
    SAME(control("start", 1), 0);
    zookeeper_close(other);
    zookeeper_close(client);
}

static void run(const char *name, void (*test)(zhandle_t *)) {
    test_name = name;
    test_failed = 0;
    snprintf(root, sizeof root, "/c-%d-%d", (int)getpid(), passed + failed);
    zhandle_t *client = connect_to(getenv("ROOST_ZK"));
    SAME(make(client, root, "", ZOO_PERSISTENT, NULL, 0), ZOK);
    test(client);
    remove_below(client, root);
    zookeeper_close(client);
    printf("%s %s\n", test_failed ? "FAILED" : "ok", name);
    fflush(stdout);
    test_failed ? failed++ : passed++;
}

int main(void) {
    zoo_set_debug_level(0);
    run("znodes are created, read, set and deleted by version", znodes);
    run("each change fires the watches that it concerns", watches);
    run("a multi does all or nothing and says which op failed", multis);
    run("a digest opens what its list allows and no more", access_control);
    run("ephemerals go with their session", ephemerals);
    run("a thousand requests under way are answered in their order", pipelining);
    run("a client of a killed server goes on with its session and its watches", killed);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

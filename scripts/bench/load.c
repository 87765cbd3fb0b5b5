/*
 * A load generator for servers of ZooKeeper's client protocol that costs little itself: one thread, bare sockets,
 * requests put together from prepared parts.
 *
 *   load set|get CONNECTIONS OUTSTANDING SECONDS    256 B of data of 1,000 znodes; OUTSTANDING over all connections
 *   load fill ZNODES SESSIONS                       makes znodes of 256 B, opens sessions, waits for the end of stdin
 *
 * Servers are those of ROOST_ZK; connections are spread over them. Prints one JSON object. The loop is closed: a request
 * is sent when one of the same connection is answered. `refused` counts every answer with an error, of whatever kind: figures
 * with such answers compare nothing.
 *
 * cc -O2 -o load load.c
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DATA 256
#define KEYS 1000
#define PER_CONNECTION_MAX 4096
#define BUFFER (1 << 18)
#define SECONDS_MAX 3600
#define SESSION_MS 40000
enum { CREATE = 1, GET = 4, SET = 5, CLOSE = -11 };
#define EXISTS (-110)

struct connection {
    int fd, outstanding, first, last; /* first and last: of the ring of sending times */
    int sent, to_send, received;
    uint64_t sent_us[PER_CONNECTION_MAX];
    char out[BUFFER], in[BUFFER];
};

static struct sockaddr_in servers[16];
static int servers_count;
static char payload[DATA];
static uint32_t *latencies;
static long answered, refused, latencies_max;
static long existed; /* of those refused, because the znode is there already */
static long per_second[SECONDS_MAX];
static uint64_t began_us;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static void find_servers(void) {
    char *list = getenv("ROOST_ZK");
    if (!list) {
        fprintf(stderr, "load: ROOST_ZK names no servers\n");
        exit(2);
    }
    list = strdup(list);
    for (char *address = strtok(list, ","); address && servers_count < 16; address = strtok(NULL, ",")) {
        char *port = strrchr(address, ':');
        *port++ = 0;
        servers[servers_count].sin_family = AF_INET;
        servers[servers_count].sin_port = htons((uint16_t)atoi(port));
        inet_pton(AF_INET, address, &servers[servers_count].sin_addr);
        servers_count++;
    }
}

static char *put_int(char *at, int32_t value) {
    value = (int32_t)htonl((uint32_t)value);
    memcpy(at, &value, 4);
    return at + 4;
}

static int32_t get_int(const char *at) {
    int32_t value;
    memcpy(&value, at, 4);
    return (int32_t)ntohl((uint32_t)value);
}

static char *put_bytes(char *at, const char *bytes, int length) {
    at = put_int(at, length);
    memcpy(at, bytes, (size_t)length);
    return at + length;
}

static void read_all(int fd, char *into, int length) {
    for (int got = 0; got < length;) {
        ssize_t part = read(fd, into + got, (size_t)(length - got));
        if (part <= 0) die("read");
        got += (int)part;
    }
}

/* Opens a connection to the nth server, in turn, and a session on it. */
static int open_session(int n) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&servers[n % servers_count], sizeof servers[0])) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char frame[64] = {0}, *at = put_int(frame, 45);
    at = put_int(at + 12, SESSION_MS); /* behind protocol version and last zxid */
    put_int(at + 8, 16);               /* no session: 16 bytes of no password */
    if (write(fd, frame, 49) != 49) die("write");
    read_all(fd, frame, 4);
    int length = get_int(frame);
    if (length < 0 || length > 60) die("handshake");
    read_all(fd, frame + 4, length);
    return fd;
}

static int frame_of(char *into, int op, const char *path) {
    char *at = put_int(into + 4, 1);
    at = put_int(at, op);
    at = put_bytes(at, path, (int)strlen(path));
    if (op == GET) {
        *at++ = 0; /* no watch */
    } else {
        at = put_bytes(at, payload, DATA);
    }
    if (op == SET) {
        at = put_int(at, -1); /* any version */
    } else if (op == CREATE) {
        at = put_int(at, 1); /* one entry: everything to everyone */
        at = put_int(at, 31);
        at = put_bytes(at, "world", 5);
        at = put_bytes(at, "anyone", 6);
        at = put_int(at, 0); /* persistent */
    }
    put_int(into, (int32_t)(at - into) - 4);
    return (int)(at - into);
}

static void flush_out(struct connection *c) {
    while (c->sent < c->to_send) {
        ssize_t part = write(c->fd, c->out + c->sent, (size_t)(c->to_send - c->sent));
        if (part < 0 && errno == EAGAIN) return;
        if (part <= 0) die("write");
        c->sent += (int)part;
    }
    c->sent = c->to_send = 0;
}

static int ask(struct connection *c, int op, const char *path) {
    if (c->to_send + 1024 > BUFFER || c->outstanding >= PER_CONNECTION_MAX) return 0;
    c->to_send += frame_of(c->out + c->to_send, op, path);
    c->sent_us[c->last++ % PER_CONNECTION_MAX] = now_us();
    c->outstanding++;
    return 1;
}

/* Takes what has arrived; returns the number of answers. */
static int take(struct connection *c) {
    int count = 0, at = 0;
    ssize_t part = read(c->fd, c->in + c->received, (size_t)(BUFFER - c->received));
    if (part < 0 && errno == EAGAIN) return 0;
    if (part <= 0) die("read: the server closed the connection");
    c->received += (int)part;
    uint64_t now = now_us();
    while (c->received - at >= 4 && c->received - at >= 4 + get_int(c->in + at)) {
        uint64_t took = now - c->sent_us[c->first++ % PER_CONNECTION_MAX];
        uint64_t second = (now - began_us) / 1000000;
        int error = get_int(c->in + at + 16);
        if (error != 0) refused++;
        if (error == EXISTS) existed++;
        if (answered < latencies_max) latencies[answered] = (uint32_t)took;
        if (second < SECONDS_MAX) per_second[second]++;
        answered++;
        count++;
        c->outstanding--;
        at += 4 + get_int(c->in + at);
    }
    memmove(c->in, c->in + at, (size_t)(c->received - at));
    c->received -= at;
    return count;
}

static struct connection *open_all(int count) {
    struct connection *all = calloc((size_t)count, sizeof *all);
    for (int n = 0; n < count; n++) {
        all[n].fd = open_session(n);
        fcntl(all[n].fd, F_SETFL, O_NONBLOCK);
    }
    return all;
}

static void name_of(char *into, const char *prefix, long n) {
    sprintf(into, "%s%06ld", prefix, n);
}

/* Keeps every connection's share of requests under way until time or count is over, then awaits what is left. */
static void drive(struct connection *all, int count, int each, int op, const char *prefix, long total,
                  uint64_t until_us) {
    struct pollfd *polled = calloc((size_t)count, sizeof *polled);
    long asked = 0;
    int outstanding = 0;
    char path[64];
    for (int more = 1; more || outstanding;) {
        more = total ? asked < total : now_us() < until_us;
        for (int n = 0; n < count; n++) {
            while (more && all[n].outstanding < each && (!total || asked < total)) {
                name_of(path, prefix, total ? asked : (asked * 7919) % KEYS);
                if (!ask(&all[n], op, path)) break;
                asked++;
                outstanding++;
            }
            flush_out(&all[n]);
            polled[n].fd = all[n].fd;
            polled[n].events = (short)(POLLIN | (all[n].to_send ? POLLOUT : 0));
        }
        if (outstanding && poll(polled, (nfds_t)count, 60000) <= 0) die("poll: no answer");
        for (int n = 0; n < count; n++)
            if (polled[n].revents & (POLLIN | POLLHUP)) outstanding -= take(&all[n]);
    }
    free(polled);
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(double part) {
    long count = answered < latencies_max ? answered : latencies_max;
    return count ? latencies[(long)(part * (double)(count - 1))] / 1000.0 : 0;
}

static void prepare_keys(void) {
    struct connection *one = open_all(1);
    drive(one, 1, 1, CREATE, "/bench", 1, 0);
    drive(one, 1, 100, CREATE, "/bench000000/k", KEYS, 0);
    close(one->fd);
    free(one);
    /* An earlier load may have made them. */
    if (refused != existed) {
        fprintf(stderr, "load: of the znodes to be made before it, %ld were refused\n", refused - existed);
        exit(1);
    }
    answered = refused = existed = 0;
    memset(per_second, 0, sizeof per_second);
}

static double cpu_us_of(const struct rusage *used) {
    return (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1e6 +
           (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
}

static void load(int op, int connections, int outstanding, int seconds) {
    latencies_max = 200000L * seconds;
    latencies = malloc((size_t)latencies_max * sizeof *latencies);
    prepare_keys();
    struct connection *all = open_all(connections);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    began_us = now_us();
    drive(all, connections, (outstanding + connections - 1) / connections, op, "/bench000000/k", 0,
          began_us + (uint64_t)seconds * 1000000);
    double took = (double)(now_us() - began_us) / 1e6;
    getrusage(RUSAGE_SELF, &after);
    double cpu_us = cpu_us_of(&after) - cpu_us_of(&before);
    long slowest = per_second[0];
    for (int n = 0; n < seconds; n++)
        if (per_second[n] < slowest) slowest = per_second[n];
    qsort(latencies, (size_t)(answered < latencies_max ? answered : latencies_max), sizeof *latencies, by_size);
    printf("{\"op\": \"%s\", \"ops\": %ld, \"refused\": %ld, \"seconds\": %.3f, \"per_second\": %.0f, "
           "\"slowest_second\": %ld, \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"p999_ms\": %.2f, \"max_ms\": %.2f, \"client_cpu_us\": %.2f}\n",
           op == SET ? "set" : "get", answered, refused, took, (double)answered / took, slowest, percentile_ms(0.5),
           percentile_ms(0.99), percentile_ms(0.999), percentile_ms(1), cpu_us / (double)answered);
}

static void fill(long znodes, int sessions) {
    prepare_keys();
    struct connection *all = open_all(3);
    char prefix[64];
    /* A thousand children each, as registries have them. */
    for (long n = 0; n * 1000 < znodes; n++) {
        snprintf(prefix, sizeof prefix, "/bench000000/k%06ld/n", n % KEYS);
        drive(all, 3, 100, CREATE, prefix, znodes - n * 1000 < 1000 ? znodes - n * 1000 : 1000, 0);
    }
    for (int n = 0; n < sessions; n++) open_session(n);
    printf("{\"op\": \"fill\", \"znodes\": %ld, \"sessions\": %d, \"refused\": %ld}\n", znodes, sessions, refused);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
}

int main(int count, char **args) {
    memset(payload, 'x', sizeof payload);
    find_servers();
    if (count == 5 && (!strcmp(args[1], "set") || !strcmp(args[1], "get"))) {
        load(!strcmp(args[1], "set") ? SET : GET, atoi(args[2]), atoi(args[3]), atoi(args[4]));
    } else if (count == 4 && !strcmp(args[1], "fill")) {
        fill(atol(args[2]), atoi(args[3]));
    } else {
        fprintf(stderr, "load: set|get CONNECTIONS OUTSTANDING SECONDS, or fill ZNODES SESSIONS\n");
        return 2;
    }
    return 0;
}

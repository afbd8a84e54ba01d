/* Transactions of librdkafka for `cargo xtask chaos txn|cluster`.
 * transactions ADDR TOPIC PARTITIONS FAMILY RUNS AT_ONCE SEED TIMEOUT_MS EACH
 * Each run is a producer of its own, FAMILY-1 … FAMILY-RUNS, with EACH transactions of one record in some partitions and sometimes an offset of
 * a group of its name; some are aborted, given up, left to their time-out, or ended by a producer that another one has fenced meanwhile.
 * Lines on stdout: "NAME NUMBER written PARTITION", "NAME NUMBER offset -", "NAME NUMBER asked|told commit|abort", "NAME NUMBER lost REASON",
 * "NAME 0 done -"; and "end". A transaction that was asked to commit is never said to be aborted: then its fate is not known here.
 * When stdin is closed no more runs begin. */
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PARTITIONS_MAX = 64, STUCK_SECONDS = 240, CALL_MS = 5000 };

static const char *addr, *topic, *family;
static int partitions, runs, timeout_ms, each;
static unsigned seed;
static atomic_int next_run, stop;

typedef struct { int delivered[PARTITIONS_MAX], failed; } sent_t;

typedef struct { char name[64]; unsigned random; rd_kafka_t *rk; sent_t *sent; } run_t;

static int below(run_t *run, int bound) { return rand_r(&run->random) / 16 % bound; }

static void nap(int ms) { usleep((useconds_t)ms * 1000); }

static void say(run_t *run, int number, const char *what, const char *more) {
    flockfile(stdout);
    printf("%s %d %s %s\n", run->name, number, what, more);
    fflush(stdout);
    funlockfile(stdout);
}

static void stuck(run_t *run, const char *where) {
    fprintf(stderr, "%s is stuck in %s\n", run->name, where);
    fflush(stderr);
    _exit(3);
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char error[256];
    if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK) { fprintf(stderr, "%s\n", error); exit(2); }
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    (void)rk;
    (void)opaque;
    sent_t *sent = m->_private;
    if (m->err) sent->failed = 1;
    else sent->delivered[m->partition] = 1;
}

/* Nobody hears of it any more; what is open stays open. */
static void let_go(rd_kafka_t *rk) {
    if (!rk) return;
    rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_destroy(rk);
}

static int lost(run_t *run, int number, rd_kafka_error_t *error) {
    int is_fatal = rd_kafka_error_is_fatal(error);
    say(run, number, "lost", rd_kafka_error_name(error));
    rd_kafka_error_destroy(error);
    return is_fatal;
}

static rd_kafka_t *begin(run_t *run) {
    char error[256], text[16];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", addr);
    set(conf, "log_level", "0");
    set(conf, "reconnect.backoff.ms", "20");
    set(conf, "reconnect.backoff.max.ms", "200");
    set(conf, "retry.backoff.ms", "50");
    set(conf, "linger.ms", "1");
    set(conf, "transactional.id", run->name);
    set(conf, "socket.timeout.ms", "1000");
    snprintf(text, sizeof text, "%d", timeout_ms);
    set(conf, "transaction.timeout.ms", text);
    set(conf, "message.timeout.ms", text);
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (!rk) { fprintf(stderr, "%s\n", error); exit(2); }
    for (time_t until = time(NULL) + STUCK_SECONDS; time(NULL) < until;) {
        rd_kafka_error_t *failed = rd_kafka_init_transactions(rk, CALL_MS);
        if (!failed) return rk;
        int again = rd_kafka_error_is_retriable(failed);
        rd_kafka_error_destroy(failed);
        if (!again) { let_go(rk); nap(50); return begin(run); }
        nap(20);
    }
    stuck(run, "init_transactions");
    return NULL;
}

/* 0: told so; 1: it has to be aborted; 2: the producer cannot go on. */
static int end(run_t *run, rd_kafka_t *rk, int number, int commit) {
    for (time_t until = time(NULL) + STUCK_SECONDS; time(NULL) < until;) {
        rd_kafka_error_t *failed = commit ? rd_kafka_commit_transaction(rk, CALL_MS) : rd_kafka_abort_transaction(rk, CALL_MS);
        if (!failed) return 0;
        if (rd_kafka_error_is_retriable(failed)) { rd_kafka_error_destroy(failed); nap(20); continue; }
        int must_abort = rd_kafka_error_txn_requires_abort(failed);
        lost(run, number, failed);
        return commit && must_abort ? 1 : 2;
    }
    stuck(run, commit ? "commit_transaction" : "abort_transaction");
    return 2;
}

/* Whether the producer can go on. */
static int aborted(run_t *run, int number, int says_so) {
    if (says_so) say(run, number, "asked", "abort");
    if (end(run, run->rk, number, 0)) return 0;
    if (says_so) say(run, number, "told", "abort");
    return 1;
}

static int offsets(run_t *run, int number) {
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata_new(run->name);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = number;
    int done = 0;
    for (time_t until = time(NULL) + STUCK_SECONDS; time(NULL) < until;) {
        rd_kafka_error_t *failed = rd_kafka_send_offsets_to_transaction(run->rk, list, group, CALL_MS);
        if (!failed) { done = 1; break; }
        if (rd_kafka_error_is_retriable(failed)) { rd_kafka_error_destroy(failed); nap(20); continue; }
        lost(run, number, failed);
        break;
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_group_metadata_destroy(group);
    if (done) say(run, number, "offset", "-");
    return done;
}

/* Whether the producer can go on. */
static int transaction(run_t *run, int number) {
    rd_kafka_error_t *failed = rd_kafka_begin_transaction(run->rk);
    if (failed) { lost(run, number, failed); return 0; }
    char value[96], text[16];
    int length = snprintf(value, sizeof value, "%s:%d", run->name, number);
    int count = 1 + below(run, partitions < 3 ? partitions : 3), first = below(run, partitions), written = 0;
    /* Reports of a producer that was let go may still come: each transaction has its own, for as long as the program lives. */
    sent_t *sent = calloc(1, sizeof *sent);
    for (int step = 0; step < count; step++)
        if (rd_kafka_producev(run->rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION((first + step) % partitions), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                              RD_KAFKA_V_VALUE(value, (size_t)length), RD_KAFKA_V_OPAQUE(sent), RD_KAFKA_V_END)) sent->failed = 1;
    rd_kafka_flush(run->rk, 2 * timeout_ms);
    for (int p = 0; p < partitions; p++)
        if (sent->delivered[p]) { snprintf(text, sizeof text, "%d", p); say(run, number, "written", text); written++; }
    if (sent->failed || written < count) return aborted(run, number, 1);
    if (below(run, 3) == 0 && !offsets(run, number)) return aborted(run, number, 1);
    switch (below(run, 60)) {
    case 0: return 0; /* given up: its successor aborts it */
    case 1: nap(timeout_ms + 500); break;
    case 2: case 3: { /* another one takes its place, and this one goes on */
        rd_kafka_t *zombie = run->rk;
        run->rk = begin(run);
        say(run, number, "asked", "commit");
        if (!end(run, zombie, number, 1)) say(run, number, "told", "commit");
        let_go(zombie);
        return 1;
    }
    default: if (below(run, 3) == 0) nap(below(run, 100));
    }
    if (below(run, 4) == 0) return aborted(run, number, 1);
    say(run, number, "asked", "commit");
    switch (end(run, run->rk, number, 1)) {
    case 0: say(run, number, "told", "commit"); return 1;
    case 1: return aborted(run, number, 0);
    default: return 0;
    }
}

static void *work(void *unused) {
    (void)unused;
    while (!stop) {
        int number = ++next_run;
        if (number > runs) break;
        run_t *run = calloc(1, sizeof *run);
        snprintf(run->name, sizeof run->name, "%s-%d", family, number);
        run->random = seed * 7919u + (unsigned)number;
        for (int i = 1; i <= each; i++) {
            if (!run->rk) run->rk = begin(run);
            if (!transaction(run, i)) { let_go(run->rk); run->rk = NULL; }
        }
        let_go(run->rk);
        say(run, 0, "done", "-");
    }
    return NULL;
}

static void *listen_to_stdin(void *unused) {
    char byte;
    while (read(0, &byte, 1) > 0) {}
    stop = 1;
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 10) return 2;
    addr = argv[1]; topic = argv[2]; partitions = atoi(argv[3]); family = argv[4]; runs = atoi(argv[5]);
    int at_once = atoi(argv[6]);
    seed = (unsigned)atoi(argv[7]); timeout_ms = atoi(argv[8]); each = atoi(argv[9]);
    if (partitions > PARTITIONS_MAX || at_once < 1) return 2;
    pthread_t listener, *threads = calloc((size_t)at_once, sizeof *threads);
    pthread_create(&listener, NULL, listen_to_stdin, NULL);
    for (int i = 0; i < at_once; i++) pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < at_once; i++) pthread_join(threads[i], NULL);
    printf("end\n");
    fflush(stdout);
    _exit(0);
}

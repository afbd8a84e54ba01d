/* One of the two producer families of `cargo xtask chaos`: librdkafka, idempotent, retrying for ever.
 * producer ADDR TOPIC PARTITIONS NAME RATE     sends RATE records/s until stdin closes; a line "PARTITION NUMBER OFFSET" per delivery
 *                                              report on stdout; then flushes and ends with "flushed".
 * producer ADDR TOPIC PARTITIONS read          the whole log, a line "PARTITION OFFSET VALUE" per record, then "end".
 * producer ADDR TOPIC PARTITIONS read-readable the same, but a partition ends where the broker says that it is damaged. */
#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fatal;

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    (void)rk;
    (void)opaque;
    unsigned long number = (unsigned long)m->_private;
    if (m->err) { fprintf(stderr, "record %d %lu: %s\n", m->partition, number, rd_kafka_err2str(m->err)); fatal = 1; return; }
    printf("%d %lu %ld\n", m->partition, number, (long)m->offset);
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char error[256];
    if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK) { fprintf(stderr, "%s\n", error); exit(2); }
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *addr) {
    char error[256];
    set(conf, "bootstrap.servers", addr);
    const char *debug = getenv("RDKAFKA_DEBUG"); /* for example eos,msg: why it gives its producer a new epoch */
    set(conf, "log_level", debug ? "7" : "1");
    if (debug) set(conf, "debug", debug);
    set(conf, "reconnect.backoff.ms", "20");
    set(conf, "reconnect.backoff.max.ms", "200");
    rd_kafka_t *rk = rd_kafka_new(type, conf, error, sizeof error);
    if (!rk) { fprintf(stderr, "%s\n", error); exit(2); }
    return rk;
}

static int read_all(const char *addr, const char *topic, int partitions, int over_damage) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "group.id", "chaos-reader");
    set(conf, "enable.partition.eof", "true");
    set(conf, "enable.auto.commit", "false");
    set(conf, "check.crcs", "true");
    set(conf, "queued.min.messages", "100000");
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf, addr);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int p = 0; p < partitions; p++) rd_kafka_topic_partition_list_add(list, topic, p)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(rk, list);
    time_t last = time(NULL);
    int open = partitions;
    char *ended = calloc((size_t)partitions, 1);
    while (open > 0 && time(NULL) - last < 60) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 1000);
        if (!m) continue;
        if (!m->err) { printf("%d %ld %.*s\n", m->partition, (long)m->offset, (int)m->len, (char *)m->payload); last = time(NULL); }
        else if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF || (over_damage && m->err == RD_KAFKA_RESP_ERR_INVALID_MSG && m->rkt)) {
            if (!ended[m->partition]) open--;
            ended[m->partition] = 1;
        }
        else fprintf(stderr, "%s\n", rd_kafka_message_errstr(m));
        rd_kafka_message_destroy(m);
    }
    if (open == 0) printf("end\n");
    fflush(stdout);
    _exit(open != 0); /* a reader has nothing to hand back */
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    const char *addr = argv[1], *topic = argv[2], *name = argv[4];
    int partitions = atoi(argv[3]), rate = argc > 5 ? atoi(argv[5]) : 1000;
    if (!strcmp(name, "read")) return read_all(addr, topic, partitions, 0);
    if (!strcmp(name, "read-readable")) return read_all(addr, topic, partitions, 1);
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "enable.idempotence", "true");
    set(conf, "message.timeout.ms", "0");
    set(conf, "retries", "2147483647");
    set(conf, "retry.backoff.ms", "20");
    set(conf, "linger.ms", "2");
    set(conf, "batch.num.messages", "50");
    set(conf, "socket.timeout.ms", "5000");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, conf, addr);
    unsigned long *next = calloc((size_t)partitions, sizeof *next);
    struct pollfd in = {.fd = 0, .events = POLLIN};
    for (unsigned long i = 0; !fatal; i++) {
        if (i % 16 == 0) {
            if (poll(&in, 1, 16000 / rate) > 0) break; /* stdin closed */
            rd_kafka_poll(rk, 0);
        }
        if (rd_kafka_outq_len(rk) > 2000) { rd_kafka_poll(rk, 20); i--; if (poll(&in, 1, 0) > 0) break; continue; }
        int p = (int)(i % (unsigned long)partitions);
        char value[64];
        int length = snprintf(value, sizeof value, "%s %lu", name, next[p]);
        if (rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(p), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                              RD_KAFKA_V_VALUE(value, (size_t)length), RD_KAFKA_V_OPAQUE((void *)next[p]), RD_KAFKA_V_END)) { rd_kafka_poll(rk, 20); i--; continue; }
        next[p]++;
    }
    if (!fatal && rd_kafka_flush(rk, 60000) == 0 && !fatal) printf("flushed\n");
    fflush(stdout);
    _exit(fatal);
}

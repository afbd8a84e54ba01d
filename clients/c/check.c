/* The promises of Ottla as librdkafka (C, unmodified, from Debian) sees them. ADDR=host:port says where the broker is. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RECORDS 600
static const char *addr;
static char run[32], why[512];
static int passed, failed;

#define MUST(condition, ...) do { if (!(condition)) { snprintf(why, sizeof why, __VA_ARGS__); return 0; } } while (0)

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char error[256];
    if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "%s: %s\n", key, error);
        exit(2);
    }
}

/* A client with the settings given as key, value, …, NULL. */
static rd_kafka_t *client(rd_kafka_type_t type, void *opaque, void (*delivered)(rd_kafka_t *, const rd_kafka_message_t *, void *),
                          const char *const *settings) {
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", addr);
    set(conf, "log_level", "2");
    for (; settings && *settings; settings += 2) set(conf, settings[0], settings[1]);
    if (delivered) rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_conf_set_opaque(conf, opaque);
    rd_kafka_t *rk = rd_kafka_new(type, conf, error, sizeof error);
    if (!rk) { fprintf(stderr, "%s\n", error); exit(2); }
    return rk;
}

static void topic_name(char *out, size_t size, const char *name) { snprintf(out, size, "c-%s-%s", name, run); }

static rd_kafka_resp_err_t create_topic(const char *full, int partitions, const char *key, const char *value) {
    char error[256];
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL, NULL, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(full, partitions, 1, error, sizeof error);
    if (key) rd_kafka_NewTopic_set_config(topic, key, value);
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 30000);
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (event) {
        size_t count;
        const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
        err = rd_kafka_topic_result_error(rd_kafka_CreateTopics_result_topics(result, &count)[0]);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return err;
}

struct reports { int good, bad, in_order; int64_t next; rd_kafka_resp_err_t last_error; };

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    struct reports *r = opaque;
    if (message->err) { r->bad++; r->last_error = message->err; return; }
    r->good++;
    if (message->offset != r->next++) r->in_order = 0;
}

static void value_of(int i, char *out, size_t *length) {
    *length = 0;
    for (int n = 0; n < i % 40; n++) *length += (size_t)sprintf(out + *length, "value %d ", i);
}

/* Produces RECORDS records to partition 0, in order, then waits for every delivery report. */
static int produce(const char *topic, const char *const *settings, struct reports *reports) {
    *reports = (struct reports){.in_order = 1};
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, reports, delivered, settings);
    for (int i = 0; i < RECORDS; i++) {
        char value[1024], key[16];
        size_t length;
        value_of(i, value, &length);
        int key_length = sprintf(key, "k%d", i % 37);
        rd_kafka_resp_err_t err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
            RD_KAFKA_V_KEY(key, key_length), RD_KAFKA_V_VALUE(value, length), RD_KAFKA_V_HEADER("n", key, key_length), RD_KAFKA_V_END);
        if (err) { reports->bad++; reports->last_error = err; }
        rd_kafka_poll(rk, 0);
    }
    rd_kafka_resp_err_t err = rd_kafka_flush(rk, 30000);
    rd_kafka_destroy(rk);
    return !err;
}

/* Reads partition 0 from the start and compares with what `produce` sent. */
static int read_back(const char *topic) {
    const char *settings[] = {"group.id", run, "enable.partition.eof", "true", "enable.auto.commit", "false", "check.crcs", "true", NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, NULL, NULL, settings);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    int i = 0, same = 1;
    time_t deadline = time(NULL) + 30;
    while (time(NULL) < deadline) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);
        if (!m) continue;
        int end = m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (!end && !m->err) {
            char value[1024], key[16];
            size_t length;
            value_of(i, value, &length);
            int key_length = sprintf(key, "k%d", i % 37);
            rd_kafka_headers_t *headers;
            const void *header;
            size_t header_length;
            same &= m->offset == i && m->len == length && !memcmp(m->payload, value, length) && m->key_len == (size_t)key_length &&
                    !memcmp(m->key, key, (size_t)key_length) && !rd_kafka_message_headers(m, &headers) &&
                    !rd_kafka_header_get_last(headers, "n", &header, &header_length) && header_length == (size_t)key_length;
            i++;
        }
        rd_kafka_message_destroy(m);
        if (end) break;
    }
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    MUST(same && i == RECORDS, "%s: %d of %d records, %s", topic, i, RECORDS, same ? "equal" : "different");
    return 1;
}

static int every_codec_comes_back_byte_for_byte(void) {
    const char *codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    for (int c = 0; c < 5; c++) {
        char topic[128], name[32];
        snprintf(name, sizeof name, "codec-%s", codecs[c]);
        topic_name(topic, sizeof topic, name);
        MUST(!create_topic(topic, 1, NULL, NULL), "cannot create %s", topic);
        const char *settings[] = {"compression.type", codecs[c], "linger.ms", "5", NULL};
        struct reports r;
        MUST(produce(topic, settings, &r) && r.good == RECORDS, "%s: %d good reports, %d bad", codecs[c], r.good, r.bad);
        if (!read_back(topic)) return 0;
    }
    return 1;
}

static int idempotent_producer_keeps_order_and_reports_offsets(void) {
    char topic[128];
    topic_name(topic, sizeof topic, "order");
    MUST(!create_topic(topic, 1, NULL, NULL), "cannot create %s", topic);
    const char *settings[] = {"enable.idempotence", "true", "batch.num.messages", "7", NULL};
    struct reports r;
    MUST(produce(topic, settings, &r) && r.good == RECORDS && r.in_order, "%d good reports, %d bad, in order: %d", r.good, r.bad, r.in_order);
    return read_back(topic);
}

static int partitions_of(rd_kafka_t *rk) {
    rd_kafka_topic_partition_list_t *list = NULL;
    if (rd_kafka_assignment(rk, &list) || !list) return 0;
    int count = list->cnt;
    rd_kafka_topic_partition_list_destroy(list);
    return count;
}

/* Polls the members until `want` records came or both hold `each` partitions; 40 s at most. */
static int poll_members(rd_kafka_t **members, int count, int *read, int want, int each) {
    time_t deadline = time(NULL) + 40;
    for (;;) {
        int settled = *read >= want;
        for (int m = 0; m < count; m++) {
            rd_kafka_message_t *message = rd_kafka_consumer_poll(members[m], 20);
            if (message && !message->err) { ++*read; rd_kafka_commit_message(members[m], message, 0); }
            if (message) rd_kafka_message_destroy(message);
            settled &= partitions_of(members[m]) == each;
        }
        if (settled) return 1;
        if (time(NULL) > deadline) return 0;
    }
}

static int a_group_of_two_shares_and_takes_over(void) {
    char topic[128];
    topic_name(topic, sizeof topic, "group");
    MUST(!create_topic(topic, 4, NULL, NULL), "cannot create %s", topic);
    const char *settings[] = {"group.id", topic, "auto.offset.reset", "earliest", "enable.auto.commit", "false", "heartbeat.interval.ms", "300", "session.timeout.ms", "6000",
                              "partition.assignment.strategy", "range", NULL};
    rd_kafka_t *members[2];
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
    for (int m = 0; m < 2; m++) {
        members[m] = client(RD_KAFKA_CONSUMER, NULL, NULL, settings);
        rd_kafka_poll_set_consumer(members[m]);
        rd_kafka_subscribe(members[m], list);
    }
    rd_kafka_topic_partition_list_destroy(list);
    int read = 0;
    struct reports r;
    MUST(poll_members(members, 2, &read, 0, 2), "not two partitions each: %d and %d", partitions_of(members[0]), partitions_of(members[1]));
    MUST(produce(topic, NULL, &r) && r.good == RECORDS, "produce: %d good, %d bad", r.good, r.bad);
    MUST(poll_members(members, 2, &read, RECORDS, 2), "the two read %d of %d", read, RECORDS);
    rd_kafka_consumer_close(members[1]);
    rd_kafka_destroy(members[1]);
    MUST(poll_members(members, 1, &read, RECORDS, 4), "no takeover: %d partitions", partitions_of(members[0]));
    MUST(produce(topic, NULL, &r) && r.good == RECORDS, "produce: %d good, %d bad", r.good, r.bad);
    MUST(poll_members(members, 1, &read, 2 * RECORDS, 4), "the one read %d of %d", read, 2 * RECORDS);
    rd_kafka_consumer_close(members[0]);
    rd_kafka_destroy(members[0]);
    MUST(read == 2 * RECORDS, "read %d, want %d: something came twice", read, 2 * RECORDS);
    return 1;
}

static int errors_are_kafkas_own(void) {
    char topic[128];
    topic_name(topic, sizeof topic, "errors");
    MUST(!create_topic(topic, 1, "max.message.bytes", "300"), "cannot create %s", topic);
    MUST(create_topic(topic, 1, NULL, NULL) == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS, "created twice");
    const char *settings[] = {"linger.ms", "0", "batch.num.messages", "1", NULL};
    struct reports r;
    produce(topic, settings, &r);
    MUST(r.good > 0 && r.bad > 0 && r.last_error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "%d good, %d bad, last %s", r.good, r.bad,
         rd_kafka_err2name(r.last_error));
    return 1;
}

static void check(const char *name, int (*story)(void)) {
    if (story()) { passed++; printf("ok   %s\n", name); }
    else { failed++; printf("FAIL %s: %s\n", name, why); }
    fflush(stdout);
}

int main(void) {
    addr = getenv("ADDR") ? getenv("ADDR") : "127.0.0.1:9092";
    snprintf(run, sizeof run, "%lx-%x", (long)time(NULL), (unsigned)getpid());
    check("every_codec_comes_back_byte_for_byte", every_codec_comes_back_byte_for_byte);
    check("idempotent_producer_keeps_order_and_reports_offsets", idempotent_producer_keeps_order_and_reports_offsets);
    check("a_group_of_two_shares_and_takes_over", a_group_of_two_shares_and_takes_over);
    check("errors_are_kafkas_own", errors_are_kafkas_own);
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}

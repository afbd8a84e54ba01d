import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/** The promises of Ottla as the official Java client sees them. ADDR=host:port says where the broker is. */
public class Check {
    static final String ADDR = Optional.ofNullable(System.getenv("ADDR")).orElse("127.0.0.1:9092");
    static final String RUN = UUID.randomUUID().toString().substring(0, 8);
    static int passed, failed;

    interface Story { void tell() throws Exception; }

    static void check(String name, Story story) {
        try {
            story.tell();
            passed++;
            System.out.println("ok   " + name);
        } catch (Throwable e) {
            failed++;
            System.out.println("FAIL " + name + ": " + e);
        }
    }

    static void that(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    interface Condition { boolean holds() throws Exception; }

    static void until(String what, Condition c) throws Exception {
        long deadline = System.nanoTime() + 40_000_000_000L;
        while (!c.holds()) {
            that(System.nanoTime() < deadline, "in 40 s not seen: " + what);
            Thread.sleep(50);
        }
    }

    static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", ADDR));
    }

    static String topic(String name, int partitions, Map<String, String> configs) throws Exception {
        String full = "java-" + name + "-" + RUN;
        try (Admin a = admin()) {
            a.createTopics(List.of(new NewTopic(full, partitions, (short) 1).configs(configs))).all().get();
        }
        return full;
    }

    static KafkaProducer<String, byte[]> producer(Map<String, Object> more) {
        Map<String, Object> p = new HashMap<>(Map.of("bootstrap.servers", ADDR, "linger.ms", 5));
        p.putAll(more);
        return new KafkaProducer<>(p, new StringSerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<String, byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> p = new HashMap<>(Map.of("bootstrap.servers", ADDR, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false"));
        p.putAll(more);
        return new KafkaConsumer<>(p, new StringDeserializer(), new ByteArrayDeserializer());
    }

    static List<ConsumerRecord<String, byte[]>> readAll(String topic, int partitions) {
        List<ConsumerRecord<String, byte[]>> out = new ArrayList<>();
        try (var c = consumer(Map.of())) {
            var parts = IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(topic, p)).toList();
            c.assign(parts);
            var ends = c.endOffsets(parts);
            long deadline = System.nanoTime() + 30_000_000_000L;
            while (parts.stream().anyMatch(p -> c.position(p) < ends.get(p))) {
                that(System.nanoTime() < deadline, "read " + out.size() + " records, then nothing more");
                c.poll(Duration.ofMillis(200)).forEach(out::add);
            }
        }
        return out;
    }

    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    static void everyCodec() throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String t = topic("codec-" + codec, 3, Map.of());
            Map<Integer, String> sent = new TreeMap<>();
            try (var p = producer(Map.of("compression.type", codec))) {
                for (int i = 0; i < 900; i++) {
                    String key = "k" + i % 37, value = ("value " + i + " ").repeat(i % 40);
                    sent.put(i, key + "=" + value);
                    p.send(new ProducerRecord<>(t, null, key, bytes(value),
                        List.of(new RecordHeader("n", bytes("" + i)), new RecordHeader("null", (byte[]) null))));
                }
                p.flush();
            }
            Map<Integer, String> got = new TreeMap<>();
            for (var r : readAll(t, 3)) {
                that(r.headers().lastHeader("null").value() == null, "a null header value stays null");
                int n = Integer.parseInt(new String(r.headers().lastHeader("n").value()));
                that(got.put(n, r.key() + "=" + new String(r.value(), StandardCharsets.UTF_8)) == null, "twice: " + n);
            }
            that(got.equals(sent), codec + ": " + got.size() + " of " + sent.size());
        }
    }

    static void idempotentOrder() throws Exception {
        String t = topic("order", 1, Map.of());
        List<Future<RecordMetadata>> reports = new ArrayList<>();
        try (var p = producer(Map.of("batch.size", 200, "linger.ms", 0))) {
            for (int i = 0; i < 3000; i++) reports.add(p.send(new ProducerRecord<>(t, bytes("" + i))));
            p.flush();
        }
        for (int i = 0; i < 3000; i++) that(reports.get(i).get().offset() == i, "report " + i);
        var got = readAll(t, 1);
        for (int i = 0; i < 3000; i++) that(new String(got.get(i).value()).equals("" + i), "record " + i);
    }

    static void groupOfTwo(String protocol, String assignor) throws Exception {
        String t = topic("group-" + assignor, 4, Map.of()), g = "java-group-" + assignor + RUN;
        Queue<String> seen = new ConcurrentLinkedQueue<>();
        List<Set<TopicPartition>> assigned = List.of(ConcurrentHashMap.newKeySet(), ConcurrentHashMap.newKeySet());
        List<AtomicBoolean> stop = List.of(new AtomicBoolean(), new AtomicBoolean());
        ExecutorService pool = Executors.newFixedThreadPool(2);
        List<Future<?>> members = new ArrayList<>();
        for (int m = 0; m < 2; m++) {
            int i = m;
            members.add(pool.submit(() -> {
                try (var c = consumer(Map.of("group.id", g, "partition.assignment.strategy",
                    "org.apache.kafka.clients.consumer." + assignor, "heartbeat.interval.ms", 500))) {
                    c.subscribe(List.of(t));
                    while (!stop.get(i).get()) {
                        var records = c.poll(Duration.ofMillis(100));
                        assigned.get(i).retainAll(c.assignment());
                        assigned.get(i).addAll(c.assignment());
                        records.forEach(r -> seen.add(new String(r.value())));
                        if (!records.isEmpty()) c.commitSync();
                    }
                }
            }));
        }
        try (var p = producer(Map.of())) {
            until("two partitions each", () -> assigned.get(0).size() == 2 && assigned.get(1).size() == 2);
            for (int i = 0; i < 400; i++) p.send(new ProducerRecord<>(t, "" + i, bytes("a" + i)));
            p.flush();
            until("all read by the two", () -> seen.size() >= 400);
            try (Admin a = admin()) {
                var d = a.describeConsumerGroups(List.of(g)).all().get().get(g);
                that(d.members().size() == 2 && d.groupState() == GroupState.STABLE, "described: " + d);
            }
            stop.get(1).set(true);
            until("the one that stays takes over", () -> assigned.get(0).size() == 4);
            for (int i = 0; i < 400; i++) p.send(new ProducerRecord<>(t, "" + i, bytes("b" + i)));
            p.flush();
            until("all read by the one", () -> seen.size() >= 800);
        } finally {
            stop.forEach(s -> s.set(true));
            pool.shutdown();
        }
        for (var m : members) m.get(20, TimeUnit.SECONDS);
        that(seen.size() == 800 && new HashSet<>(seen).size() == 800, "each record once, yet " + seen.size());
        try (Admin a = admin()) {
            long sum = a.listConsumerGroupOffsets(g).partitionsToOffsetAndMetadata().get().values().stream()
                .mapToLong(OffsetAndMetadata::offset).sum();
            that(sum == 800, "committed " + sum);
            a.deleteConsumerGroups(List.of(g)).all().get();
            that(a.listConsumerGroups().all().get().stream().noneMatch(x -> x.groupId().equals(g)), "group is gone");
        }
    }

    static void adminTells() throws Exception {
        String t = topic("admin", 2, Map.of("retention.ms", "12345"));
        try (Admin a = admin(); var p = producer(Map.of())) {
            for (int i = 0; i < 10; i++) p.send(new ProducerRecord<>(t, 0, 1000L + i, "k", bytes("v"))).get();
            var d = a.describeTopics(List.of(t)).allTopicNames().get().get(t);
            that(d.partitions().size() == 2 && !d.topicId().equals(Uuid.ZERO_UUID), "described: " + d);
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, t);
            that(a.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value().equals("12345"), "config");
            a.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(
                new ConfigEntry("retention.ms", "-1"), AlterConfigOp.OpType.SET)))).all().get();
            that(a.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value().equals("-1"), "altered");
            var tp = new TopicPartition(t, 0);
            that(a.listOffsets(Map.of(tp, OffsetSpec.forTimestamp(1005))).all().get().get(tp).offset() == 5, "by time");
            that(a.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).all().get().get(tp).offset() == 9, "max timestamp");
            that(a.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(4))).all().get() == null, "trim");
            that(a.listOffsets(Map.of(tp, OffsetSpec.earliest())).all().get().get(tp).offset() == 4, "earliest after trim");
            a.createPartitions(Map.of(t, NewPartitions.increaseTo(5))).all().get();
            that(a.describeTopics(List.of(t)).allTopicNames().get().get(t).partitions().size() == 5, "five partitions");
            a.deleteTopics(List.of(t)).all().get();
            that(!a.listTopics().names().get().contains(t), "topic is gone");
            that(a.describeCluster().clusterId().get().length() == 22, "cluster id");
        }
    }

    static void errorsAreKafkas() throws Exception {
        String t = topic("errors", 1, Map.of("max.message.bytes", "2000"));
        try {
            topic("errors", 1, Map.of());
            throw new AssertionError("created twice");
        } catch (ExecutionException e) {
            that(e.getCause() instanceof TopicExistsException, "" + e.getCause());
        }
        try {
            topic("replicated", 1, Map.of("no.such.config", "1"));
            throw new AssertionError("unknown config taken");
        } catch (ExecutionException e) {
            that(e.getCause() instanceof InvalidConfigurationException, "" + e.getCause());
        }
        try (var p = producer(Map.of())) {
            byte[] big = new byte[5000];
            new Random(1).nextBytes(big);
            try {
                p.send(new ProducerRecord<>(t, big)).get();
                throw new AssertionError("too large a record taken");
            } catch (ExecutionException e) {
                that(e.getCause() instanceof RecordTooLargeException, "" + e.getCause());
            }
            that(p.send(new ProducerRecord<>(t, bytes("small"))).get().offset() == 0, "the next one is the first");
        }
    }

    public static void main(String[] args) {
        check("every_codec_comes_back_byte_for_byte", Check::everyCodec);
        check("idempotent_producer_keeps_order_and_reports_offsets", Check::idempotentOrder);
        check("an_eager_group_of_two_shares_and_takes_over", () -> groupOfTwo("classic", "RangeAssignor"));
        check("a_cooperative_group_of_two_shares_and_takes_over", () -> groupOfTwo("classic", "CooperativeStickyAssignor"));
        check("admin_tells_and_changes", Check::adminTells);
        check("errors_are_kafkas_own", Check::errorsAreKafkas);
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}

// MirrorMaker 2, unmodified, from the broker at ADDR to the one at ADDR_TO: topics with their partitions and configs, records (exactly once,
// MirrorMaker being killed in the middle) and the offsets of a consumer group arrive.
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

public class Mirror {
    static final String FROM = System.getenv("ADDR"), TO = System.getenv("ADDR_TO");
    static final Path WORK = Path.of(System.getenv("WORK"));
    static final int PARTITIONS = 3, HALF = 600;
    static int failed = 0, passed = 0;

    public static void main(String[] args) throws Exception {
        Process mirror = null;
        try (Admin from = Admin.create(Map.of("bootstrap.servers", FROM)); Admin to = Admin.create(Map.of("bootstrap.servers", TO))) {
            from.createTopics(List.of(new NewTopic("orders", PARTITIONS, (short) 1).configs(Map.of("retention.ms", "123456789")))).all().get();
            produce(0);
            mirror = start();
            Map<TopicPartition, List<String>> first = read(HALF, false, 60);
            expect("the first records", count(first) == HALF, count(first) + " of " + HALF);
            mirror.destroyForcibly().waitFor();
            produce(1);
            mirror = start();
            Map<TopicPartition, List<String>> both = read(2 * HALF, true, 60);
            boolean same = true;
            for (int p = 0; p < PARTITIONS; p++) {
                List<String> want = new ArrayList<>();
                for (int i = p; i < 2 * HALF; i += PARTITIONS) want.add("k" + i + "=v" + i + "/h" + i);
                same &= want.equals(both.get(new TopicPartition("A.orders", p)));
            }
            expect("all records, each once, in their order, keys and headers", same, count(both) + " of " + 2 * HALF);
            TopicDescription topic = to.describeTopics(List.of("A.orders")).allTopicNames().get().get("A.orders");
            expect("partitions", topic.partitions().size() == PARTITIONS, "" + topic.partitions().size());
            // A group of the source has read everything, and says so. MirrorMaker knows places of both sides now and then only, and translates to
            // the last one before: what is left to prove is that none is lost, and none too far.
            Map<TopicPartition, OffsetAndMetadata> said = new HashMap<>();
            for (int p = 0; p < PARTITIONS; p++) said.put(new TopicPartition("orders", p), new OffsetAndMetadata(2 * HALF / PARTITIONS));
            from.alterConsumerGroupOffsets("readers", said).all().get();
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, "A.orders");
            String retention = "";
            Map<TopicPartition, OffsetAndMetadata> there = Map.of();
            for (long until = System.currentTimeMillis() + 40000; System.currentTimeMillis() < until; Thread.sleep(500)) {
                retention = to.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value();
                there = to.listConsumerGroupOffsets("readers").partitionsToOffsetAndMetadata().get();
                if (there.size() == PARTITIONS && there.values().stream().allMatch(o -> o.offset() > 1) && retention.equals("123456789")) break;
            }
            expect("topic configs", retention.equals("123456789"), retention);
            // Transactions of MirrorMaker leave markers between the records: what counts is which record comes next.
            boolean right = there.size() == PARTITIONS;
            for (var entry : there.entrySet()) right &= entry.getValue().offset() > 1 && nextAt(entry.getKey(), entry.getValue().offset()) <= 2 * HALF / PARTITIONS;
            expect("offsets of a group, none of them too far", right, there.toString());
        } catch (Throwable t) {
            t.printStackTrace(); expect("the run", false, t.toString());
        } finally {
            if (mirror != null) mirror.destroyForcibly().waitFor();
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    static void produce(int half) throws Exception {
        try (Producer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", FROM), new StringSerializer(), new StringSerializer())) {
            for (int i = half * HALF; i < (half + 1) * HALF; i++)
                producer.send(new ProducerRecord<>("orders", i % PARTITIONS, "k" + i, "v" + i, List.of(new RecordHeader("h", ("h" + i).getBytes()))));
            producer.flush();
        }
    }

    /** What stands in the mirror, read until there are so many; with patience, a moment longer, so that what came twice is seen. */
    static Map<TopicPartition, List<String>> read(int records, boolean patience, int seconds) throws Exception {
        Map<TopicPartition, List<String>> read = new HashMap<>();
        Map<String, Object> c = Map.of("bootstrap.servers", TO, "isolation.level", "read_committed", "auto.offset.reset", "earliest", "enable.auto.commit", false, "allow.auto.create.topics", false);
        try (Consumer<String, String> consumer = new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < PARTITIONS; p++) all.add(new TopicPartition("A.orders", p));
            consumer.assign(all);
            long until = System.currentTimeMillis() + 1000L * seconds, quiet = Long.MAX_VALUE;
            while (System.currentTimeMillis() < Math.min(until, quiet)) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(200)))
                    read.computeIfAbsent(new TopicPartition(r.topic(), r.partition()), any -> new ArrayList<>()).add(r.key() + "=" + r.value() + "/" + new String(r.headers().lastHeader("h").value()));
                if (count(read) >= records && quiet == Long.MAX_VALUE) quiet = System.currentTimeMillis() + (patience ? 2000 : 0);
            }
        }
        return read;
    }

    /** How many records of the partition stand before this offset. */
    static int nextAt(TopicPartition partition, long offset) {
        Map<String, Object> c = Map.of("bootstrap.servers", TO, "isolation.level", "read_committed", "enable.auto.commit", false);
        try (Consumer<String, String> consumer = new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            int before = 0;
            for (int i = 0; i < 50 && consumer.position(partition) < offset; i++)
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(200))) {
                    if (r.offset() >= offset) return before;
                    before++;
                }
            return before;
        }
    }

    static int count(Map<TopicPartition, List<String>> read) { return read.values().stream().mapToInt(List::size).sum(); }

    static Process start() throws Exception {
        String properties = String.join("\n", "clusters=A,B", "A.bootstrap.servers=" + FROM, "B.bootstrap.servers=" + TO, "A->B.enabled=true", "B->A.enabled=false", "A->B.topics=orders",
            "A->B.groups=readers", "replication.factor=1", "checkpoints.topic.replication.factor=1", "heartbeats.topic.replication.factor=1", "offset-syncs.topic.replication.factor=1",
            "offset.storage.replication.factor=1", "status.storage.replication.factor=1", "config.storage.replication.factor=1", "sync.group.offsets.enabled=true",
            "sync.group.offsets.interval.seconds=1", "emit.checkpoints.interval.seconds=1", "refresh.groups.interval.seconds=2", "refresh.topics.interval.seconds=2",
            "sync.topic.configs.interval.seconds=2", "offset.lag.max=5", "tasks.max=2", "B.exactly.once.source.support=enabled", "dedicated.mode.enable.internal.rest=true", "listeners=http://127.0.0.1:0",
            "offset.flush.interval.ms=1000", "session.timeout.ms=6000", "heartbeat.interval.ms=1500", "scheduled.rebalance.max.delay.ms=0", "heartbeats.replication.enabled=false", "");
        Path file = WORK.resolve("mm2.properties");
        Files.writeString(file, properties);
        ProcessBuilder b = new ProcessBuilder(System.getProperty("java.home") + "/bin/java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=" + System.getenv().getOrDefault("LOG", "warn"), "-cp", System.getProperty("java.class.path"), "org.apache.kafka.connect.mirror.MirrorMaker", file.toString());
        return b.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(WORK.resolve("mirror.log").toFile())).start();
    }

    static void expect(String what, boolean is, String but) {
        if (is) passed++; else failed++;
        System.out.println(is ? "ok   " + what : "FAIL " + what + ": " + but);
    }
}

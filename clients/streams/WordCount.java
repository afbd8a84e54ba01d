// Word count on an unmodified Kafka Streams, exactly once: two processes count, one of them is killed and started again, the broker is
// killed and started again (RESTART, a command), and every count of every word must stand in the output once, in its order.
// "WordCount" alone runs the check; "WordCount app NAME" is one of the processes that count.
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

public class WordCount {
    static final String ADDR = System.getenv().getOrDefault("ADDR", "127.0.0.1:9092");
    static final String PROTOCOL = System.getenv().getOrDefault("GROUP_PROTOCOL", "classic");
    static final String RESTART = System.getenv("RESTART");
    static final long LIMIT_MS = 1000 * Long.parseLong(System.getenv().getOrDefault("LIMIT", "100"));
    static final int LINES = Integer.parseInt(System.getenv().getOrDefault("LINES", "2000")), WORDS_A_LINE = 5, WORDS = 61;
    static final Path WORK = Path.of(System.getenv("WORK"));
    static final String APP = "wordcount-" + PROTOCOL;

    public static void main(String[] args) throws Exception {
        if (args.length == 2) { app(args[1]); return; }
        int code = 1;
        List<Process> counting = new ArrayList<>();
        try { code = check(counting) ? 0 : 1; } catch (Throwable t) { t.printStackTrace(); System.out.println("FAIL word count: " + t); }
        for (Process p : counting) p.destroyForcibly().waitFor();
        System.exit(code);
    }

    static void app(String name) {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, APP);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, ADDR);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.STATE_DIR_CONFIG, WORK.resolve(name).toString());
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.GROUP_PROTOCOL_CONFIG, PROTOCOL);
        p.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        // The group decides it under the other protocol.
        if (PROTOCOL.equals("classic")) { p.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 6000); p.put(StreamsConfig.NUM_STANDBY_REPLICAS_CONFIG, 1); }
        StreamsBuilder b = new StreamsBuilder();
        b.stream("lines", Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("counted"))
            .toStream().to("counts", Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(b.build(), p);
        streams.setStateListener((now, was) -> System.err.println("state " + was + " -> " + now));
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    static Process start(String name) throws Exception {
        String java = System.getProperty("java.home") + "/bin/java";
        ProcessBuilder b = new ProcessBuilder(java, "-Xmx160m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=" + System.getenv().getOrDefault("LOG", "info"),
            "-cp", System.getProperty("java.class.path"), "WordCount", "app", name);
        File log = WORK.resolve(name + ".log").toFile();
        return b.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log)).start();
    }

    static boolean check(List<Process> counting) throws Exception {
        long until = System.currentTimeMillis() + LIMIT_MS;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", ADDR))) {
            admin.createTopics(List.of(new NewTopic("lines", 3, (short) 1), new NewTopic("counts", 2, (short) 1))).all().get();
            if (PROTOCOL.equals("streams")) {
                ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, APP);
                var set = new ArrayList<AlterConfigOp>();
                set.add(new AlterConfigOp(new ConfigEntry("streams.session.timeout.ms", "6000"), AlterConfigOp.OpType.SET));
                set.add(new AlterConfigOp(new ConfigEntry("streams.heartbeat.interval.ms", "1000"), AlterConfigOp.OpType.SET));
                set.add(new AlterConfigOp(new ConfigEntry("streams.num.standby.replicas", "1"), AlterConfigOp.OpType.SET));
                admin.incrementalAlterConfigs(Map.of(group, set)).all().get();
            }
        }
        counting.add(start("one"));
        counting.add(start("two"));
        // What is expected is what was acknowledged; nothing may be refused, a broker that comes back included.
        Map<String, Long> expected = new TreeMap<>();
        AtomicReference<Exception> refused = new AtomicReference<>();
        AtomicInteger fed = new AtomicInteger();
        Thread feeder = new Thread(() -> {
            Map<String, Object> p = Map.of("bootstrap.servers", ADDR, "delivery.timeout.ms", 120000, "linger.ms", 5);
            try (Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
                for (int line = 0; line < LINES; line++) {
                    StringBuilder text = new StringBuilder();
                    for (int word = 0; word < WORDS_A_LINE; word++) {
                        String w = "w" + (line * 7 + word * word * 3) % WORDS;
                        text.append(word == 0 ? "" : " ").append(w);
                        expected.merge(w, 1L, Long::sum);
                    }
                    producer.send(new ProducerRecord<>("lines", "k" + line % 17, text.toString()), (m, e) -> { if (e != null) refused.compareAndSet(null, e); });
                    fed.set(line);
                    Thread.sleep(8);
                }
            } catch (Exception e) { refused.compareAndSet(null, e); }
        });
        feeder.setDaemon(true);
        feeder.start();

        // The disturbances come when so much of the whole is counted, so each of them meets work under way.
        int total = LINES * WORDS_A_LINE, step = 0;
        long counted = 0, quiet = 0;
        Map<String, Long> last = new HashMap<>();
        List<String> wrong = new ArrayList<>();
        Map<String, Object> c = Map.of("bootstrap.servers", ADDR, "isolation.level", "read_committed", "auto.offset.reset", "earliest", "enable.auto.commit", false);
        try (Consumer<String, Long> consumer = new KafkaConsumer<>(c, new StringDeserializer(), new LongDeserializer())) {
            List<TopicPartition> all = List.of(new TopicPartition("counts", 0), new TopicPartition("counts", 1));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            while (System.currentTimeMillis() < until) {
                for (ConsumerRecord<String, Long> r : consumer.poll(Duration.ofMillis(200))) {
                    long was = last.getOrDefault(r.key(), 0L);
                    if (r.value() != was + 1) wrong.add(r.key() + ": " + r.value() + " follows " + was);
                    last.put(r.key(), r.value());
                    counted++;
                }
                if (step == 0 && counted > total / 8) {
                    step++; System.out.println("killing one of two at " + counted + " of " + total);
                    counting.get(0).destroyForcibly().waitFor();
                    counting.set(0, start("one"));
                }
                if (step == 1 && counted > total / 2) {
                    step++;
                    if (RESTART != null) { System.out.println("killing the broker at " + counted); restart(); }
                }
                if (step == 2 && counted > total * 3 / 4) {
                    step++; System.out.println("killing both at " + counted);
                    for (int i = 0; i < 2; i++) counting.get(i).destroyForcibly().waitFor();
                    counting.set(0, start("one")); counting.set(1, start("two"));
                }
                boolean done = counted >= total && !feeder.isAlive();
                // What came twice would come soon.
                if (done && quiet == 0) quiet = System.currentTimeMillis() + 3000;
                if (done && System.currentTimeMillis() > quiet) break;
            }
        }
        boolean exact = wrong.isEmpty() && last.equals(expected) && counted == total && refused.get() == null && step == 3;
        System.out.println((exact ? "ok   " : "FAIL ") + "word count, group.protocol=" + PROTOCOL + ": " + counted + " of " + total + " counts, " + fed.get() + " lines, "
            + wrong.size() + " wrong " + wrong.subList(0, Math.min(3, wrong.size())) + ", " + step + " disturbances, " + (refused.get() == null ? "nothing refused" : refused.get()));
        return exact;
    }

    static void restart() throws Exception {
        Process p = new ProcessBuilder("bash", "-c", RESTART).redirectErrorStream(true).redirectOutput(WORK.resolve("restart.log").toFile()).start();
        if (!p.waitFor(40, TimeUnit.SECONDS) || p.exitValue() != 0) throw new IllegalStateException("the broker did not come again: " + Files.readString(WORK.resolve("restart.log")));
    }
}

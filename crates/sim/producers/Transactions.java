import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Transactions of kafka-clients for `cargo xtask chaos txn|cluster`, new ones (KIP-890) and old ones by the jar in the class path.
 * Arguments, lines and what a run is: as transactions.c.
 */
public class Transactions {
    static final Duration STUCK = Duration.ofMinutes(4);
    static String address, topic, family;
    static int partitions, runs, timeoutMs, each;
    static long seed;
    static volatile boolean stop;
    static final AtomicInteger nextRun = new AtomicInteger();
    static final java.io.PrintStream out = new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true);

    final String name;
    final Random random;
    KafkaProducer<String, String> producer;

    Transactions(int run) {
        name = family + "-" + run;
        random = new Random(seed * 7919 + run);
    }

    void say(int number, String what, String more) {
        synchronized (out) { out.println(name + " " + number + " " + what + " " + more); }
    }

    static void stuck(String name, String where) {
        System.err.println(name + " is stuck in " + where);
        Runtime.getRuntime().halt(3);
    }

    static void nap(int ms) {
        try { Thread.sleep(ms); } catch (InterruptedException e) { throw new IllegalStateException(e); }
    }

    KafkaProducer<String, String> begin() {
        var settings = Map.<String, Object>of("bootstrap.servers", address, "transactional.id", name, "transaction.timeout.ms", timeoutMs,
            "request.timeout.ms", 1000, "delivery.timeout.ms", timeoutMs, "max.block.ms", 5000, "linger.ms", 1, "retry.backoff.ms", 50,
            "reconnect.backoff.ms", 20, "reconnect.backoff.max.ms", 200);
        long until = System.nanoTime() + STUCK.toNanos();
        while (System.nanoTime() < until) {
            var begun = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
            try {
                while (System.nanoTime() < until) {
                    try {
                        begun.initTransactions();
                        return begun;
                    } catch (TimeoutException e) {
                        nap(20);
                    }
                }
            } catch (KafkaException e) {
                nap(50);
            }
            begun.close(Duration.ZERO);
        }
        stuck(name, "initTransactions");
        return null;
    }

    /** Whether it was told so; what else comes of it is thrown. */
    static void end(String name, KafkaProducer<String, String> producer, boolean commit) {
        long until = System.nanoTime() + STUCK.toNanos();
        while (System.nanoTime() < until) {
            try {
                if (commit) producer.commitTransaction(); else producer.abortTransaction();
                return;
            } catch (TimeoutException e) {
                nap(20);
            }
        }
        stuck(name, commit ? "commitTransaction" : "abortTransaction");
    }

    /** Whether the producer can go on. */
    boolean abort(int number, boolean saysSo) {
        try {
            if (saysSo) say(number, "asked", "abort");
            end(name, producer, false);
            if (saysSo) say(number, "told", "abort");
            return true;
        } catch (KafkaException | IllegalStateException e) {
            say(number, "lost", e.getClass().getSimpleName());
            return false;
        }
    }

    boolean transaction(int number) {
        try {
            producer.beginTransaction();
        } catch (KafkaException | IllegalStateException e) {
            say(number, "lost", e.getClass().getSimpleName());
            return false;
        }
        try {
            int count = 1 + random.nextInt(Math.min(partitions, 3)), first = random.nextInt(partitions);
            var sent = new LinkedHashMap<Integer, Future<RecordMetadata>>();
            for (int step = 0; step < count; step++) {
                int partition = (first + step) % partitions;
                sent.put(partition, producer.send(new ProducerRecord<>(topic, partition, null, name + ":" + number)));
            }
            producer.flush();
            for (var each : sent.entrySet()) {
                each.getValue().get();
                say(number, "written", each.getKey().toString());
            }
            if (random.nextInt(3) == 0) {
                producer.sendOffsetsToTransaction(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(number)), new ConsumerGroupMetadata(name));
                say(number, "offset", "-");
            }
        } catch (KafkaException | IllegalStateException | ExecutionException | InterruptedException e) {
            say(number, "lost", (e instanceof ExecutionException ? e.getCause() : e).getClass().getSimpleName());
            return abort(number, true);
        }
        switch (random.nextInt(60)) {
            case 0: // given up: its successor aborts it
                return false;
            case 1:
                nap(timeoutMs + 500);
                break;
            case 2: case 3: // another one takes its place, and this one goes on
                var zombie = producer;
                producer = begin();
                say(number, "asked", "commit");
                try {
                    end(name, zombie, true);
                    say(number, "told", "commit");
                } catch (KafkaException | IllegalStateException e) {
                    say(number, "lost", e.getClass().getSimpleName());
                }
                zombie.close(Duration.ZERO);
                return true;
            default:
                if (random.nextInt(3) == 0) nap(random.nextInt(100));
        }
        if (random.nextInt(4) == 0) return abort(number, true);
        say(number, "asked", "commit");
        try {
            end(name, producer, true);
            say(number, "told", "commit");
            return true;
        } catch (KafkaException | IllegalStateException e) {
            say(number, "lost", e.getClass().getSimpleName());
            return abort(number, false);
        }
    }

    void run() {
        for (int number = 1; number <= each; number++) {
            if (producer == null) producer = begin();
            if (!transaction(number)) letGo();
        }
        letGo();
        say(0, "done", "-");
    }

    void letGo() {
        if (producer != null) producer.close(Duration.ZERO);
        producer = null;
    }

    public static void main(String[] args) throws Exception {
        address = args[0];
        topic = args[1];
        partitions = Integer.parseInt(args[2]);
        family = args[3];
        runs = Integer.parseInt(args[4]);
        seed = Long.parseLong(args[6]);
        timeoutMs = Integer.parseInt(args[7]);
        each = Integer.parseInt(args[8]);
        Thread stdin = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException e) { }
            stop = true;
        });
        stdin.setDaemon(true);
        stdin.start();
        var threads = new ArrayList<Thread>();
        for (int i = 0; i < Integer.parseInt(args[5]); i++) {
            var thread = new Thread(() -> {
                for (int run; !stop && (run = nextRun.incrementAndGet()) <= runs;) new Transactions(run).run();
            });
            thread.setUncaughtExceptionHandler((t, e) -> {
                e.printStackTrace();
                Runtime.getRuntime().halt(4);
            });
            thread.start();
            threads.add(thread);
        }
        for (var thread : threads) thread.join();
        out.println("end");
        Runtime.getRuntime().halt(0);
    }
}

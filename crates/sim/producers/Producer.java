import java.util.Map;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * One of the two producer families of `cargo xtask chaos`: kafka-clients, idempotent, retrying for ever.
 * Producer ADDR TOPIC PARTITIONS NAME RATE: sends RATE records/s until stdin closes; a line "PARTITION NUMBER OFFSET" per
 * delivery report on stdout; then flushes and ends with "flushed".
 */
public class Producer {
    static volatile boolean stop, fatal;

    public static void main(String[] args) throws Exception {
        String topic = args[1], name = args[3];
        int partitions = Integer.parseInt(args[2]), rate = Integer.parseInt(args[4]);
        Thread stdin = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException e) { }
            stop = true;
        });
        stdin.setDaemon(true);
        stdin.start();
        var settings = Map.<String, Object>of("bootstrap.servers", args[0], "enable.idempotence", true, "acks", "all",
            "delivery.timeout.ms", Integer.MAX_VALUE, "max.block.ms", 600_000, "linger.ms", 2, "batch.size", 2000,
            "retry.backoff.ms", 20, "reconnect.backoff.ms", 20, "reconnect.backoff.max.ms", 200);
        var out = new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true);
        var waiting = new java.util.concurrent.Semaphore(2000);
        long[] next = new long[partitions];
        var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
        long started = System.nanoTime();
        for (long i = 0; !stop && !fatal; i++) {
            int p = (int) (i % partitions);
            long number = next[p]++;
            while (!waiting.tryAcquire(100, java.util.concurrent.TimeUnit.MILLISECONDS)) if (stop || fatal) break;
            if (stop || fatal) break;
            producer.send(new ProducerRecord<>(topic, p, null, name + " " + number), (m, e) -> {
                waiting.release();
                if (e != null) {
                    System.err.println("record " + p + " " + number + ": " + e);
                    fatal = true;
                } else {
                    synchronized (out) { out.println(p + " " + number + " " + m.offset()); }
                }
            });
            long ahead = started + i * 1_000_000_000L / rate - System.nanoTime();
            if (ahead > 1_000_000) Thread.sleep(ahead / 1_000_000);
            else if (ahead < -1_000_000_000L) started = System.nanoTime() - i * 1_000_000_000L / rate;
        }
        producer.flush();
        if (!fatal) out.println("flushed");
        out.flush();
        Runtime.getRuntime().halt(fatal ? 1 : 0);
    }
}

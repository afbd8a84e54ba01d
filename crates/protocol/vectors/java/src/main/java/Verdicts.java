import java.io.PrintWriter;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.CorruptRecordException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.utils.internals.BufferSupplier;
import org.apache.kafka.common.utils.internals.Crc32C;
import org.apache.kafka.common.utils.internals.PrimitiveRef;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.storage.internals.log.AppendOrigin;
import org.apache.kafka.storage.internals.log.LogValidator;
import org.apache.kafka.storage.internals.log.RecordValidationException;

/**
 * Kafka's transaction markers, and its judgement on batches of clients, good and bad. One a line:
 *
 *   B name bytes                 a marker; followed by a line for its record:
 *   R offset timestamp key value name=value,...      hex; "-" is null
 *   V version now codec type before after compacted bytes verdict
 *       codec: topic's compression.type · type: 0 CreateTime, 1 LogAppendTime · verdict: "ok" and the batch that
 *       would be stored, or the error code and the faulty records ("87:0,2")
 *
 * Judged by ProduceRequest.validateRecords, then base offset and CRC as UnifiedLog has them, then LogValidator.
 */
public class Verdicts {
    private static final HexFormat HEX = HexFormat.of();
    private static final long NOW = 1_760_000_000_000L;
    private static final TopicPartition PARTITION = new TopicPartition("t", 0);
    private static final CompressionType[] CODECS = CompressionType.values();

    private static PrintWriter lines;

    public static void main(String[] arguments) throws Exception {
        Path output = Path.of(System.getProperty("vectors.output"));
        try (PrintWriter writer = new PrintWriter(Files.newBufferedWriter(output.resolve("verdicts.txt")))) {
            lines = writer;
            markers();
            verdicts();
        }
    }

    // ---- markers

    private static List<SimpleRecord> story(int which) {
        List<SimpleRecord> records = new ArrayList<>();
        switch (which) {
            case 0 -> records.add(new SimpleRecord(NOW, "k".getBytes(), "v".getBytes()));
            case 1 -> {
                records.add(new SimpleRecord(NOW, null, "no key".getBytes()));
                records.add(new SimpleRecord(NOW - 70_000, "tombstone".getBytes(), (byte[]) null));
                records.add(new SimpleRecord(NOW + 40, new byte[0], new byte[0], new Header[] {
                    new RecordHeader("a", "x".getBytes()), new RecordHeader("a", (byte[]) null),
                    new RecordHeader("", new byte[0])}));
            }
            case 2 -> {
                for (int i = 0; i < 12; i++)
                    records.add(new SimpleRecord(NOW + i * 1000L, ("key-" + i).getBytes(), "same same same same".getBytes()));
            }
            default -> records.add(new SimpleRecord(RecordBatch.NO_TIMESTAMP, "k".getBytes(), new byte[120]));
        }
        return records;
    }

    private static ByteBuffer build(CompressionType codec, int story, long producerId, boolean transactional) {
        ByteBuffer buffer = ByteBuffer.allocate(8192);
        MemoryRecordsBuilder builder = MemoryRecords.builder(buffer, RecordBatch.CURRENT_MAGIC_VALUE,
            Compression.of(codec).build(), TimestampType.CREATE_TIME, 0L, RecordBatch.NO_TIMESTAMP, producerId,
            (short) (producerId < 0 ? -1 : 3), producerId < 0 ? -1 : 17, transactional, RecordBatch.NO_PARTITION_LEADER_EPOCH);
        for (SimpleRecord record : story(story))
            builder.append(record);
        return copy(builder.build().buffer());
    }

    private static ByteBuffer copy(ByteBuffer from) {
        ByteBuffer bytes = ByteBuffer.allocate(from.remaining());
        bytes.put(from.duplicate());
        bytes.flip();
        return bytes;
    }

    private static String hex(ByteBuffer bytes) {
        if (bytes == null)
            return "-";
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return HEX.formatHex(copy);
    }

    private static void markers() {
        for (ControlRecordType type : List.of(ControlRecordType.COMMIT, ControlRecordType.ABORT))
            batch("marker" + type, copy(MemoryRecords.withEndTransactionMarker(NOW, 4711, (short) 3,
                new EndTransactionMarker(type, 9)).buffer()));
    }

    private static void batch(String name, ByteBuffer bytes) {
        lines.println("B " + name + " " + hex(bytes));
        for (Record record : MemoryRecords.readableRecords(bytes.duplicate()).records()) {
            String headers = java.util.Arrays.stream(record.headers())
                .map(header -> HEX.formatHex(header.key().getBytes()) + "=" + (header.value() == null ? "-" : HEX.formatHex(header.value())))
                .collect(Collectors.joining(","));
            lines.println("R " + record.offset() + " " + record.timestamp() + " " + hex(record.key()) + " " + hex(record.value()) + " " + headers);
        }
    }

    // ---- verdicts

    private record Rules(short version, CompressionType codec, TimestampType type, long before, long after, boolean compacted) { }

    private static final Rules[] RULES = {
        new Rules((short) 9, null, TimestampType.CREATE_TIME, Long.MAX_VALUE, 3_600_000, false),
        new Rules((short) 6, null, TimestampType.LOG_APPEND_TIME, Long.MAX_VALUE, 3_600_000, false),
        new Rules((short) 9, null, TimestampType.CREATE_TIME, 60_000, 5_000, true),
        new Rules((short) 9, CompressionType.NONE, TimestampType.CREATE_TIME, 60_000, Long.MAX_VALUE, false),
        new Rules((short) 9, CompressionType.LZ4, TimestampType.LOG_APPEND_TIME, Long.MAX_VALUE, 3_600_000, false),
    };

    /** Places in the header and what to put there. */
    private static final int[][] CHANGES = {
        {7, 1}, {0, 0xff}, {16, 0}, {16, 1}, {16, 3}, {16, 0xff}, {22, 0x20}, {22, 0x10}, {22, 0x08}, {22, 0x40},
        {21, 0x80}, {26, 0}, {26, 9}, {23, 0xff}, {57, 0xff}, {60, 0}, {60, 1}, {60, 13}, {53, 0xff}, {53, 0x7f},
        {43, 0xff}, {43, 0}, {51, 0xff}, {35, 0x7f}, {35, 0xff}, {42, 0}, {27, 0xff}, {34, 0x55}, {12, 0},
    };

    private static void verdicts() {
        for (CompressionType codec : CODECS) {
            for (int story = 0; story < 4; story++) {
                for (Rules rules : RULES) {
                    ByteBuffer whole = build(codec, story, story % 2 == 0 ? 4711 : -1, story == 2);
                    verdict(whole, rules);
                }
            }
            ByteBuffer base = build(codec, 1, 4711, false);
            for (int[] change : CHANGES) {
                for (int rules = 0; rules < 2; rules++) {
                    ByteBuffer changed = copy(base);
                    changed.put(change[0], (byte) (change[0] == 22 ? changed.get(22) | change[1] : change[1]));
                    verdict(seal(changed), RULES[rules]);
                }
            }
            verdict(copy(base.duplicate().limit(base.limit() - 1)), RULES[0]);
            ByteBuffer two = ByteBuffer.allocate(base.limit() * 2);
            two.put(base.duplicate()).put(base.duplicate()).flip();
            verdict(two, RULES[0]);
            verdict(copy(two.duplicate().limit(two.limit() - 3)), RULES[0]);
            verdict(copy(two.duplicate().limit(base.limit() + 13)), RULES[0]);
            ByteBuffer damaged = copy(base);
            damaged.put(damaged.limit() - 1, (byte) (damaged.get(damaged.limit() - 1) ^ 1));
            verdict(damaged, RULES[0]);
        }
        verdict(ByteBuffer.allocate(0), RULES[0]);
        verdict(ByteBuffer.allocate(40), RULES[0]);
        // Records that are not what they say. Only uncompressed ones: what a decompressor says to damage is its own.
        Random random = new Random(42);
        for (int i = 0; i < 250; i++) {
            ByteBuffer changed = build(CompressionType.NONE, 1, -1, false);
            int at = 61 + random.nextInt(changed.limit() - 61);
            changed.put(at, (byte) (random.nextBoolean() ? random.nextInt(256) : changed.get(at) + random.nextInt(5) - 2));
            verdict(seal(changed), RULES[0]);
        }
    }

    private static ByteBuffer seal(ByteBuffer batch) {
        batch.putInt(17, (int) Crc32C.compute(batch, 21 - batch.position(), batch.limit() - 21));
        return batch;
    }

    private static void verdict(ByteBuffer bytes, Rules rules) {
        String sent = bytes.hasRemaining() ? hex(bytes) : "-";
        lines.println("V " + rules.version + " " + NOW + " " + (rules.codec == null ? "producer" : rules.codec.name) + " "
            + rules.type.id + " " + rules.before + " " + rules.after + " " + (rules.compacted ? 1 : 0) + " " + sent + " "
            + judge(copy(bytes), rules));
    }

    private static String judge(ByteBuffer bytes, Rules rules) {
        try {
            MemoryRecords records = MemoryRecords.readableRecords(bytes);
            ProduceRequest.validateRecords(rules.version, records);
            MutableRecordBatch batch = records.batches().iterator().next();
            if (batch.baseOffset() != 0)
                return Errors.INVALID_RECORD.code() + ":";
            if (!batch.isValid())
                throw new CorruptRecordException();
            CompressionType source = batch.compressionType();
            MemoryRecords whole = MemoryRecords.readableRecords(bytes.duplicate().limit(batch.sizeInBytes()));
            CompressionType target = rules.codec == null ? source : rules.codec;
            LogValidator validator = new LogValidator(whole, PARTITION, FROZEN, source, Compression.of(target).build(),
                rules.compacted, RecordBatch.MAGIC_VALUE_V2, rules.type, rules.before, rules.after, 5, AppendOrigin.CLIENT);
            LogValidator.ValidationResult result = validator.validateMessagesAndAssignOffsets(
                PrimitiveRef.ofLong(1000), new Unmeasured(), BufferSupplier.NO_CACHING);
            return "ok " + hex(result.validatedRecords().buffer());
        } catch (RecordValidationException e) {
            return Errors.forException(e.invalidException()).code() + ":"
                + e.recordErrors().stream().map(error -> "" + error.batchIndex).collect(Collectors.joining(","));
        } catch (Exception e) {
            return Errors.forException(e).code() + ":";
        }
    }

    /** The system's time that always says NOW. */
    private static final Time FROZEN = (Time) Proxy.newProxyInstance(Verdicts.class.getClassLoader(),
        new Class<?>[] {Time.class},
        (proxy, method, arguments) -> method.getName().equals("milliseconds") ? NOW : method.invoke(Time.SYSTEM, arguments));

    private static class Unmeasured implements LogValidator.MetricsRecorder {
        @Override public void recordInvalidMagic() { }
        @Override public void recordInvalidOffset() { }
        @Override public void recordInvalidSequence() { }
        @Override public void recordInvalidChecksums() { }
        @Override public void recordNoKeyCompactedTopic() { }
    }
}

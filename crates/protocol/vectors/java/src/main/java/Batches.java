import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Locale;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

/**
 * Golden record batches from Kafka's own builder, one a line, each followed by what Kafka reads out of it:
 *
 *   B codec shape bytes                             shape: small, many, appended (LogAppendTime), transactional
 *   R offset timestamp key|- value|- name=value,…   bytes in hexadecimal, "-" is null
 *   M commit|abort producer epoch coordinator-epoch offset timestamp bytes
 */
final class Batches {
    private static final HexFormat HEX = HexFormat.of();
    private static final long NOW = 1_700_000_000_000L;

    static void write(Path output) throws Exception {
        try (PrintWriter lines = new PrintWriter(Files.newBufferedWriter(output.resolve("batches.txt")))) {
            for (CompressionType codec : CompressionType.values()) {
                for (String shape : new String[] {"small", "many", "appended", "transactional"}) {
                    batch(codec, shape, lines);
                }
            }
            for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.COMMIT, ControlRecordType.ABORT}) {
                MemoryRecords marker = MemoryRecords.withEndTransactionMarker(
                    77, NOW, 3, 123_456_789_012L, (short) 9, new EndTransactionMarker(type, 4));
                String name = type.name().toLowerCase(Locale.ROOT);
                lines.printf("M %s %d %d %d %d %d %s\n", name, 123_456_789_012L, 9, 4, 77, NOW, hex(marker.buffer()));
            }
        }
    }

    private static void batch(CompressionType codec, String shape, PrintWriter lines) throws Exception {
        boolean appended = shape.equals("appended");
        boolean transactional = shape.equals("transactional");
        MemoryRecordsBuilder builder = MemoryRecords.builder(
            ByteBuffer.allocate(1 << 16), RecordBatch.MAGIC_VALUE_V2, Compression.of(codec).build(),
            appended ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME, 1000, appended ? NOW + 5 : RecordBatch.NO_TIMESTAMP,
            transactional ? 42 : RecordBatch.NO_PRODUCER_ID, transactional ? (short) 3 : RecordBatch.NO_PRODUCER_EPOCH,
            transactional ? 17 : RecordBatch.NO_SEQUENCE, transactional, 6);
        int count = shape.equals("many") ? 60 : 3;
        for (int number = 0; number < count; number++) {
            byte[] key = number % 3 == 1 ? null : bytes("key-" + number);
            byte[] value = number % 5 == 2 ? null : bytes("value of record " + number + " " + "x".repeat(number));
            Header[] headers = number % 2 == 0 ? new Header[0]
                : new Header[] {new RecordHeader("trace", bytes("t" + number)), new RecordHeader("none", (byte[]) null)};
            // Times go back and forth: deltas may be negative.
            builder.append(NOW + (number % 2 == 0 ? number : -number), key, value, headers);
        }
        MemoryRecords records = builder.build();
        lines.printf("B %s %s %s\n", codec.name, shape, hex(records.buffer()));
        for (Record record : records.records()) {
            StringBuilder headers = new StringBuilder();
            for (Header header : record.headers()) {
                headers.append(headers.isEmpty() ? "" : ",").append(header.key()).append('=')
                    .append(header.value() == null ? "-" : HEX.formatHex(header.value()));
            }
            lines.printf("R %d %d %s %s %s\n", record.offset(), record.timestamp(), hex(record.key()), hex(record.value()), headers);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String hex(ByteBuffer buffer) {
        if (buffer == null) {
            return "-";
        }
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return HEX.formatHex(bytes);
    }

    private Batches() { }
}

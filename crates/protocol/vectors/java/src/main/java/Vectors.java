import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.CRC32;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Golden bytes from Kafka's own classes. Every message is filled by walking Kafka's schema object of that version
 * (not the JSON we generate from), written by its class, and noted as text, one vector a line:
 *
 *   F name version bytes        filled; decoding and encoding must give these bytes again
 *   D name version bytes|!      the default object; "!" when Kafka refuses to write it in that version
 *   X version crc32|!           the object of the last F line written in another version
 *   E code name retriable       an error
 *   K id name low high          an API, then per version: request header version, response header version
 */
public class Vectors {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.", "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.", "org.apache.kafka.coordinator.share.generated."
    };
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        Path output = Path.of(System.getProperty("vectors.output"));
        Batches.write(output);
        Verdicts.main(arguments);
        String schema = Files.readString(Path.of(System.getProperty("vectors.schema")));
        try (PrintWriter lines = new PrintWriter(Files.newBufferedWriter(output.resolve("messages.txt")))) {
            Matcher names = Pattern.compile("\"kind\":\"\\w+\",\"name\":\"(\\w+)\"").matcher(schema);
            while (names.find()) {
                message(names.group(1), lines);
            }
            for (Errors error : Errors.values()) {
                boolean retriable = error.exception() instanceof RetriableException;
                lines.printf("E %d %s %s\n", error.code(), error.name(), retriable);
            }
            for (ApiKeys key : ApiKeys.values()) {
                if (!key.hasValidVersion()) {
                    lines.printf("K %d %s\n", key.id, key.name);
                    continue;
                }
                short low = key.messageType.lowestSupportedVersion();
                short high = key.messageType.highestSupportedVersion(true);
                lines.printf("K %d %s %d %d", key.id, key.name, low, high);
                for (short version = low; version <= high; version++) {
                    lines.printf(" %d,%d", key.requestHeaderVersion(version), key.responseHeaderVersion(version));
                }
                lines.printf("\n");
            }
        }
    }

    private static Class<?> classOf(String name) {
        for (String place : PACKAGES) {
            for (String suffix : new String[] {"Data", ""}) {
                try {
                    return Class.forName(place + name + suffix);
                } catch (ClassNotFoundException next) {
                    continue;
                }
            }
        }
        throw new IllegalStateException("Kafka has no class for " + name);
    }

    private static void message(String name, PrintWriter lines) throws Exception {
        Class<?> type = classOf(name);
        short low = type.getField("LOWEST_SUPPORTED_VERSION").getShort(null);
        short high = type.getField("HIGHEST_SUPPORTED_VERSION").getShort(null);
        Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
        for (short version = low; version <= high; version++) {
            for (int seed = 0; seed < 2; seed++) {
                // The seed depends on name and version only, so a change elsewhere changes no other vector.
                Random random = new Random((name.hashCode() * 31L + version) * 31L + seed);
                filled(name, type, schemas, version, random, lines);
            }
            byte[] plain = write((Message) type.getConstructor().newInstance(), version);
            lines.printf("D %s %d %s\n", name, version, plain == null ? "!" : HEX.formatHex(plain));
        }
    }

    private static void filled(String name, Class<?> type, Schema[] schemas, short version, Random random, PrintWriter lines)
        throws Exception {
        Struct struct = (Struct) fill(schemas[version], random);
        ByteBuffer buffer = ByteBuffer.allocate(schemas[version].sizeOf(struct));
        schemas[version].write(buffer, struct);
        buffer.flip();
        Message filled = (Message) type.getConstructor().newInstance();
        filled.read(new ByteBufferAccessor(buffer), version);
        lines.printf("F %s %d %s\n", name, version, HEX.formatHex(write(filled, version)));
        for (short other = filled.lowestSupportedVersion(); other <= filled.highestSupportedVersion(); other++) {
            if (other != version) {
                byte[] crossed = write(filled, other);
                lines.printf("X %d %s\n", other, crossed == null ? "!" : crc(crossed));
            }
        }
    }

    private static String crc(byte[] bytes) {
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return Long.toHexString(crc.getValue());
    }

    /** Null when Kafka refuses: a field that is set and not in the version, or a null that it has no room for. */
    private static byte[] write(Message message, short version) {
        try {
            ObjectSerializationCache cache = new ObjectSerializationCache();
            int size = message.size(cache, version);
            ByteBuffer buffer = ByteBuffer.allocate(size);
            message.write(new ByteBufferAccessor(buffer), cache, version);
            if (buffer.hasRemaining()) {
                throw new IllegalStateException("Kafka wrote less than it measured");
            }
            return buffer.array();
        } catch (org.apache.kafka.common.errors.UnsupportedVersionException | NullPointerException refused) {
            return null;
        }
    }

    private static Object fill(Type type, Random random) throws Exception {
        if (type.isNullable() && random.nextInt(4) == 0) {
            return null;
        }
        if (type instanceof Schema schema) {
            return fillStruct(schema, random);
        }
        if (type instanceof TaggedFields tagged) {
            TreeMap<Integer, Object> fields = new TreeMap<>();
            for (Map.Entry<Integer, Field> field : tagged.fields().entrySet()) {
                // A tagged struct is null by a varint 0 in the classes and by a byte -1 in the schema objects:
                // only what is not null can be made here.
                Type inner = field.getValue().type;
                Object value = fill(inner, random);
                fields.put(field.getKey(), value == null && inner instanceof Schema ? fillStruct((Schema) inner, random) : value);
            }
            return fields;
        }
        if (type.arrayElementType().isPresent()) {
            List<Object> elements = new ArrayList<>();
            for (int count = 1 + random.nextInt(2); count > 0; count--) {
                elements.add(fill(type.arrayElementType().get(), random));
            }
            return elements.toArray();
        }
        // Kafka's own name of a primitive type says what it is, compact and nullable ones included.
        String name = type.toString().replace("COMPACT_", "").replace("NULLABLE_", "");
        return switch (name) {
            case "BOOLEAN" -> true;
            case "INT8" -> (byte) (1 + random.nextInt(100));
            case "INT16" -> (short) (1 + random.nextInt(30000));
            case "UINT16" -> 40000 + random.nextInt(20000);
            case "INT32" -> 1 + random.nextInt(Integer.MAX_VALUE - 1);
            case "UINT32" -> 3000000000L + random.nextInt(1000);
            case "INT64" -> 1 + (random.nextLong() >>> 2);
            case "FLOAT64" -> random.nextDouble() * 1000;
            case "UUID" -> new Uuid(random.nextLong(), random.nextLong());
            case "STRING" -> text(random);
            case "BYTES" -> ByteBuffer.wrap(text(random).getBytes(StandardCharsets.UTF_8));
            case "RECORDS" -> MemoryRecords.readableRecords(ByteBuffer.wrap(text(random).getBytes(StandardCharsets.UTF_8)));
            default -> throw new IllegalStateException("no filling for " + type.getClass() + " " + type);
        };
    }

    private static Struct fillStruct(Schema schema, Random random) throws Exception {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, fill(field.def.type, random));
        }
        return struct;
    }

    private static String text(Random random) {
        String letters = "abcdefghijklmnopqrstuvwxyz-_.0123456789é€";
        StringBuilder text = new StringBuilder();
        for (int length = 1 + random.nextInt(8); length > 0; length--) {
            text.append(letters.charAt(random.nextInt(letters.length())));
        }
        return text.toString();
    }
}

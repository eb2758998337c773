package stockweave.peer;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;

/** A row as objects (the form "objects"), with a binary serde that writes the same layout as {@link PackedRow}. */
final class Row {
    private static final byte SEPARATOR = 0x1F;

    private record Entry(byte[] key, Source source) {}

    private long version, onHand, changedAt;
    private final List<Entry> entries = new ArrayList<>(5);

    /** Applies the update to its source. */
    Source.Outcome apply(Update update, long offset) {
        Source source = null;
        for (Entry entry : entries) {
            if (isOf(entry.key, update)) {
                source = entry.source;
                break;
            }
        }
        boolean isNew = source == null;
        if (isNew) {
            source = new Source();
        }
        long before = source.onHand();
        Source.Outcome outcome = source.apply(update);
        if (outcome == Source.Outcome.APPLIED) {
            if (isNew) {
                entries.add(new Entry(keyOf(update), source));
            }
            source.receivedAt = update.receivedAt;
            source.offset = offset;
            version++;
            onHand += source.onHand() - before;
            changedAt = update.receivedAt;
        }
        return outcome;
    }

    private static byte[] keyOf(Update update) {
        ByteBuffer key = ByteBuffer.allocate(update.supplierLength + 1 + update.locationLength);
        key.put(update.bytes, update.supplierAt, update.supplierLength).put(SEPARATOR);
        return key.put(update.bytes, update.locationAt, update.locationLength).array();
    }

    private static boolean isOf(byte[] key, Update update) {
        int separator = update.supplierLength, supplierAt = update.supplierAt, locationAt = update.locationAt;
        return key.length == separator + 1 + update.locationLength
            && Arrays.equals(key, 0, separator, update.bytes, supplierAt, supplierAt + separator)
            && Arrays.equals(
                key, separator + 1, key.length, update.bytes, locationAt, locationAt + update.locationLength);
    }

    /** Rows to bytes and back. */
    static final class RowSerde implements Serde<Row>, Serializer<Row>, Deserializer<Row> {
        @Override
        public Serializer<Row> serializer() {
            return this;
        }

        @Override
        public Deserializer<Row> deserializer() {
            return this;
        }

        @Override
        public void close() {}

        @Override
        public void configure(Map<String, ?> configs, boolean isKey) {}

        @Override
        public byte[] serialize(String topic, Row row) {
            if (row == null) {
                return null;
            }
            int size = PackedRow.HEADER_BYTES;
            for (Entry entry : row.entries) {
                size += PackedRow.PREFIX_BYTES + entry.key.length + entry.source.size();
            }
            ByteBuffer out = ByteBuffer.allocate(size);
            out.putLong(row.version).putLong(row.onHand).putLong(row.changedAt);
            for (Entry entry : row.entries) {
                out.putShort((short) entry.key.length).putInt(entry.source.size()).put(entry.key);
                entry.source.write(out);
            }
            return out.array();
        }

        @Override
        public Row deserialize(String topic, byte[] bytes) {
            if (bytes == null) {
                return null;
            }
            ByteBuffer in = ByteBuffer.wrap(bytes);
            Row row = new Row();
            row.version = in.getLong();
            row.onHand = in.getLong();
            row.changedAt = in.getLong();
            while (in.hasRemaining()) {
                byte[] key = new byte[in.getShort()];
                in.getInt();
                in.get(key);
                row.entries.add(new Entry(key, Source.read(in)));
            }
            return row;
        }
    }
}

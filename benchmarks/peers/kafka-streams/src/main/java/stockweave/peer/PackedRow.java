package stockweave.peer;

import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * A row as bytes (the form "packed"): version, on hand, changed at; then each source with its key, supplier and
 * location. Only the source that an update touches is decoded, the others are copied as they lie, and the store's serde
 * is the identity: the least that a store's value can cost.
 */
final class PackedRow {
    static final int HEADER_BYTES = 3 * Long.BYTES, PREFIX_BYTES = Short.BYTES + Integer.BYTES;
    private static final byte SEPARATOR = 0x1F;

    /** What became of an update; `bytes` is null unless it changed the row. */
    record Folded(Source.Outcome outcome, byte[] bytes) {}

    private PackedRow() {}

    static Folded fold(byte[] row, Update update, long offset) {
        int end = row == null ? HEADER_BYTES : row.length;
        int from = HEADER_BYTES, to = end;
        Source source = null;
        for (int at = HEADER_BYTES; at < end; ) {
            ByteBuffer entry = ByteBuffer.wrap(row, at, end - at);
            int keyLength = entry.getShort(), length = entry.getInt();
            int next = at + PREFIX_BYTES + keyLength + length;
            if (hasKey(row, at + PREFIX_BYTES, keyLength, update)) {
                source = Source.read(ByteBuffer.wrap(row, next - length, length));
                from = at;
                to = next;
                break;
            }
            at = next;
        }
        if (source == null) {
            source = new Source();
            from = end;
        }
        long before = source.onHand();
        Source.Outcome outcome = source.apply(update);
        if (outcome != Source.Outcome.APPLIED) {
            return new Folded(outcome, null);
        }
        source.receivedAt = update.receivedAt;
        source.offset = offset;
        ByteBuffer old = row == null ? ByteBuffer.allocate(HEADER_BYTES) : ByteBuffer.wrap(row);
        int keyLength = update.supplierLength + 1 + update.locationLength, size = source.size();
        ByteBuffer out = ByteBuffer.allocate(end - (to - from) + PREFIX_BYTES + keyLength + size);
        out.putLong(old.getLong() + 1).putLong(old.getLong() + source.onHand() - before).putLong(update.receivedAt);
        if (row != null) {
            out.put(row, HEADER_BYTES, from - HEADER_BYTES);
        }
        out.putShort((short) keyLength).putInt(size);
        out.put(update.bytes, update.supplierAt, update.supplierLength).put(SEPARATOR);
        out.put(update.bytes, update.locationAt, update.locationLength);
        source.write(out);
        if (row != null) {
            out.put(row, to, end - to);
        }
        return new Folded(outcome, out.array());
    }

    private static boolean hasKey(byte[] row, int at, int length, Update update) {
        int separator = at + update.supplierLength;
        return length == update.supplierLength + 1 + update.locationLength
            && row[separator] == SEPARATOR
            && same(row, at, update.bytes, update.supplierAt, update.supplierLength)
            && same(row, separator + 1, update.bytes, update.locationAt, update.locationLength);
    }

    private static boolean same(byte[] left, int leftAt, byte[] right, int rightAt, int length) {
        return Arrays.equals(left, leftAt, leftAt + length, right, rightAt, rightAt + length);
    }
}

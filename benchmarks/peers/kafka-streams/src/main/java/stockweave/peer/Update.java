package stockweave.peer;

/**
 * A StockUpdate read in place: the fields of schemas/avro/StockUpdate.1.avsc in their order, strings as places in the
 * message. No object is made for a field; one Update is used for all messages of a task.
 */
final class Update {
    static final int COUNT = 0, DELTA = 1, WITHDRAWN = 2;
    private static final int FRAME_BYTES = 5;

    byte[] bytes;
    int skuAt, skuLength, supplierAt, supplierLength, locationAt, locationLength, idAt, idLength;
    int kind, basis;
    long quantity, observedAt, receivedAt;
    private int at;

    /** Reads a framed message. What follows the basis is not used by the fold, and is not read. */
    void read(byte[] framed) {
        if (framed.length < FRAME_BYTES || framed[0] != 0) {
            throw new IllegalArgumentException("the value is not framed");
        }
        bytes = framed;
        at = FRAME_BYTES;
        skuLength = length();
        skuAt = skip(skuLength);
        supplierLength = length();
        supplierAt = skip(supplierLength);
        locationLength = length();
        locationAt = skip(locationLength);
        idLength = length();
        idAt = skip(idLength);
        kind = (int) number();
        quantity = number();
        observedAt = number();
        receivedAt = number();
        basis = (int) number();
    }

    private int length() {
        return (int) number();
    }

    private int skip(int count) {
        int from = at;
        at += count;
        return from;
    }

    /** Avro's long: variable length, zigzag. */
    private long number() {
        long raw = 0;
        int shift = 0;
        byte next;
        do {
            next = bytes[at++];
            raw |= (long) (next & 0x7F) << shift;
            shift += 7;
        } while (next < 0);
        return (raw >>> 1) ^ -(raw & 1);
    }
}

package stockweave.peer;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The stock rule for one supplier at one location: the last count and the deltas observed after it. */
final class Source {
    static final long HORIZON_MS = 7L * 86_400_000;
    static final int ENTRIES_MAX = 256;
    private static final int HAS_COUNT = 1, HAS_FLOOR = 2, WITHDRAWN = 4, AVAILABLE = 8;
    private static final int FIXED_BYTES = 1 + 3 * Long.BYTES + Short.BYTES, ENTRY_BYTES = 2 * Long.BYTES + Short.BYTES;

    enum Outcome { APPLIED, DUPLICATE, SUPERSEDED, REJECTED }

    private record Entry(long at, byte[] id, long quantity) {
        int size() {
            return ENTRY_BYTES + id.length;
        }

        void write(ByteBuffer out) {
            out.putLong(at).putLong(quantity).putShort((short) id.length).put(id);
        }

        static Entry read(ByteBuffer in) {
            long at = in.getLong(), quantity = in.getLong();
            byte[] id = new byte[in.getShort()];
            in.get(id);
            return new Entry(at, id, quantity);
        }

        boolean hasId(Update update) {
            return Arrays.equals(id, 0, id.length, update.bytes, update.idAt, update.idAt + update.idLength);
        }

        /** Of two statements of one id the later stands, then the one of the smaller quantity. */
        boolean beats(Update update) {
            return update.observedAt != at ? update.observedAt < at : update.quantity > quantity;
        }
    }

    private Entry count;
    private boolean withdrawn, available, hasFloor;
    private long carried, floorAt;
    long receivedAt, offset;
    private final List<Entry> deltas = new ArrayList<>(4);

    long onHand() {
        long total = carried + (count == null ? 0 : count.quantity);
        for (Entry delta : deltas) {
            total += delta.quantity;
        }
        return total;
    }

    Outcome apply(Update update) {
        return update.kind == Update.DELTA ? applyDelta(update) : applyCount(update);
    }

    private Outcome applyDelta(Update update) {
        long at = update.observedAt;
        if (count != null && at <= count.at) {
            return Outcome.SUPERSEDED;
        }
        if (hasFloor && at <= floorAt) {
            return Outcome.REJECTED;
        }
        for (int i = 0; i < deltas.size(); i++) {
            Entry held = deltas.get(i);
            if (held.hasId(update)) {
                if (held.at == at && held.quantity == update.quantity) {
                    return Outcome.DUPLICATE;
                }
                if (held.beats(update)) {
                    return Outcome.REJECTED;
                }
                deltas.remove(i);
                break;
            }
        }
        Entry delta = entry(update);
        int place = deltas.size();
        while (place > 0 && isAfter(deltas.get(place - 1), delta)) {
            place--;
        }
        deltas.add(place, delta);
        carry();
        return Outcome.APPLIED;
    }

    private Outcome applyCount(Update update) {
        long at = update.observedAt;
        boolean withdraws = update.kind == Update.WITHDRAWN;
        boolean sameId = count != null && count.hasId(update);
        if (count != null && at < count.at) {
            return sameId ? Outcome.REJECTED : Outcome.SUPERSEDED;
        }
        if (hasFloor && at <= floorAt) {
            return Outcome.REJECTED;
        }
        if (sameId) {
            if (at == count.at && update.quantity == count.quantity && withdraws == withdrawn) {
                return Outcome.DUPLICATE;
            }
            boolean tie = at == count.at && update.quantity == count.quantity;
            if (tie ? withdrawn : count.beats(update)) {
                return Outcome.REJECTED;
            }
        } else if (count != null && at == count.at && compareIds(update, count) < 0) {
            return Outcome.SUPERSEDED;
        }
        count = entry(update);
        withdrawn = withdraws;
        available = update.basis == 1;
        carried = 0;
        hasFloor = false;
        int held = 0;
        while (held < deltas.size() && deltas.get(held).at <= at) {
            held++;
        }
        deltas.subList(0, held).clear();
        carry();
        return Outcome.APPLIED;
    }

    /** Folds the oldest deltas into `carried`, past the horizon or the entry limit, a whole millisecond at a time. */
    private void carry() {
        int size = deltas.size();
        if (size == 0) {
            return;
        }
        long floor = deltas.get(size - 1).at - HORIZON_MS;
        int over = size - ENTRIES_MAX, cut = 0;
        while (cut < size && deltas.get(cut).at < floor) {
            cut++;
        }
        if (over > cut) {
            long last = deltas.get(over - 1).at;
            for (cut = over; cut < size && deltas.get(cut).at == last; ) {
                cut++;
            }
        }
        if (cut > 0) {
            floorAt = deltas.get(cut - 1).at;
            hasFloor = true;
            for (Entry delta : deltas.subList(0, cut)) {
                carried += delta.quantity;
            }
            deltas.subList(0, cut).clear();
        }
    }

    private static Entry entry(Update update) {
        byte[] id = Arrays.copyOfRange(update.bytes, update.idAt, update.idAt + update.idLength);
        return new Entry(update.observedAt, id, update.quantity);
    }

    private static boolean isAfter(Entry left, Entry right) {
        return left.at != right.at ? left.at > right.at : Arrays.compareUnsigned(left.id, right.id) > 0;
    }

    private static int compareIds(Update update, Entry entry) {
        int end = update.idAt + update.idLength;
        return Arrays.compareUnsigned(update.bytes, update.idAt, end, entry.id, 0, entry.id.length);
    }

    int size() {
        int size = FIXED_BYTES + (count == null ? 0 : count.size()) + (hasFloor ? Long.BYTES : 0);
        for (Entry delta : deltas) {
            size += delta.size();
        }
        return size;
    }

    void write(ByteBuffer out) {
        int flags = (count != null ? HAS_COUNT : 0) | (hasFloor ? HAS_FLOOR : 0);
        out.put((byte) (flags | (withdrawn ? WITHDRAWN : 0) | (available ? AVAILABLE : 0)));
        out.putLong(receivedAt).putLong(offset).putLong(carried).putShort((short) deltas.size());
        if (hasFloor) {
            out.putLong(floorAt);
        }
        if (count != null) {
            count.write(out);
        }
        for (Entry delta : deltas) {
            delta.write(out);
        }
    }

    static Source read(ByteBuffer in) {
        Source source = new Source();
        int flags = in.get();
        source.withdrawn = (flags & WITHDRAWN) != 0;
        source.available = (flags & AVAILABLE) != 0;
        source.receivedAt = in.getLong();
        source.offset = in.getLong();
        source.carried = in.getLong();
        int entries = in.getShort();
        source.hasFloor = (flags & HAS_FLOOR) != 0;
        if (source.hasFloor) {
            source.floorAt = in.getLong();
        }
        if ((flags & HAS_COUNT) != 0) {
            source.count = Entry.read(in);
        }
        for (int i = 0; i < entries; i++) {
            source.deltas.add(Entry.read(in));
        }
        return source;
    }
}

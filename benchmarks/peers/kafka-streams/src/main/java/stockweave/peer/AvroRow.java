package stockweave.peer;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.avro.specific.SpecificDatumWriter;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;
import stockweave.Basis;
import stockweave.Count;
import stockweave.Delta;
import stockweave.Incoming;
import stockweave.Kind;
import stockweave.Receipt;
import stockweave.StockRow;
import stockweave.StockUpdate;

/**
 * The rule over classes that Avro's compiler generates from the schemas of updates and rows (the form "avro"): an
 * application as the documentation of Kafka Streams has it, with Avro serdes for records and state.
 */
final class AvroRow {
    private static final char SEPARATOR = 0x1F;

    private AvroRow() {}

    /** Applies the update to its source of the row, in place. */
    static Source.Outcome apply(StockRow row, StockUpdate update, long offset) {
        String key = update.getSupplierId() + SEPARATOR + update.getLocationId();
        stockweave.Source source = row.getSources().get(key);
        boolean isNew = source == null;
        if (isNew) {
            source = new stockweave.Source(null, new ArrayList<>(), 0L, null, 0, new ArrayList<>(), null, 0L, 0L);
        }
        long before = onHand(source);
        Source.Outcome outcome =
            update.getKind() == Kind.DELTA ? applyDelta(source, update) : applyCount(source, update);
        if (outcome == Source.Outcome.APPLIED) {
            if (isNew) {
                row.getSources().put(key, source);
            }
            source.setReceivedAt(update.getReceivedAt());
            source.setOffset(offset);
            row.setVersion(row.getVersion() + 1);
            row.setOnHand(row.getOnHand() + onHand(source) - before);
            row.setChangedAt(update.getReceivedAt());
        }
        return outcome;
    }

    static StockRow empty(String sku) {
        return new StockRow(sku, 0L, 0L, 0L, new HashMap<>());
    }

    private static long onHand(stockweave.Source source) {
        long total = source.getCarried() + (source.getCount() == null ? 0 : source.getCount().getQuantity());
        for (Delta delta : source.getDeltas()) {
            total += delta.getQuantity();
        }
        return total;
    }

    private static Source.Outcome applyDelta(stockweave.Source source, StockUpdate update) {
        long at = update.getObservedAt(), quantity = update.getQuantity();
        if (source.getCount() != null && at <= source.getCount().getAt()) {
            return Source.Outcome.SUPERSEDED;
        }
        if (source.getFloorAt() != null && at <= source.getFloorAt()) {
            return Source.Outcome.REJECTED;
        }
        List<Delta> deltas = source.getDeltas();
        for (int i = 0; i < deltas.size(); i++) {
            Delta held = deltas.get(i);
            if (held.getId().equals(update.getUpdateId())) {
                if (held.getAt() == at && held.getQuantity() == quantity) {
                    return Source.Outcome.DUPLICATE;
                }
                if (held.getAt() != at ? at < held.getAt() : quantity > held.getQuantity()) {
                    return Source.Outcome.REJECTED;
                }
                deltas.remove(i);
                break;
            }
        }
        int place = deltas.size();
        while (place > 0 && isAfter(deltas.get(place - 1), at, update.getUpdateId())) {
            place--;
        }
        deltas.add(place, new Delta(at, update.getUpdateId(), quantity, update.getOrderRef()));
        carry(source);
        return Source.Outcome.APPLIED;
    }

    private static boolean isAfter(Delta held, long at, String id) {
        return held.getAt() != at ? held.getAt() > at : held.getId().compareTo(id) > 0;
    }

    private static Source.Outcome applyCount(stockweave.Source source, StockUpdate update) {
        long at = update.getObservedAt(), quantity = update.getQuantity();
        int kind = update.getKind() == Kind.WITHDRAWN ? 1 : 0;
        Count present = source.getCount();
        boolean sameId = present != null && present.getId().equals(update.getUpdateId());
        if (present != null && at < present.getAt()) {
            return sameId ? Source.Outcome.REJECTED : Source.Outcome.SUPERSEDED;
        }
        if (source.getFloorAt() != null && at <= source.getFloorAt()) {
            return Source.Outcome.REJECTED;
        }
        if (sameId) {
            boolean tie = at == present.getAt();
            if (tie && quantity == present.getQuantity() && kind == present.getKind()) {
                return Source.Outcome.DUPLICATE;
            }
            if (tie && (quantity != present.getQuantity() ? quantity > present.getQuantity() : kind < present.getKind())) {
                return Source.Outcome.REJECTED;
            }
        } else if (present != null && at == present.getAt() && update.getUpdateId().compareTo(present.getId()) < 0) {
            return Source.Outcome.SUPERSEDED;
        }
        source.setCount(new Count(kind, update.getUpdateId(), at, quantity));
        source.setBasis(update.getBasis() == Basis.AVAILABLE ? 1 : 0);
        source.setStaleAfterMs(update.getStaleAfterMs());
        List<Receipt> receipts = new ArrayList<>(update.getIncoming().size());
        for (Incoming incoming : update.getIncoming()) {
            receipts.add(new Receipt(incoming.getExpectedAt(), incoming.getQuantity()));
        }
        source.setIncoming(receipts);
        source.setCarried(0L);
        source.setFloorAt(null);
        List<Delta> deltas = source.getDeltas();
        int held = 0;
        while (held < deltas.size() && deltas.get(held).getAt() <= at) {
            held++;
        }
        deltas.subList(0, held).clear();
        carry(source);
        return Source.Outcome.APPLIED;
    }

    private static void carry(stockweave.Source source) {
        List<Delta> deltas = source.getDeltas();
        int size = deltas.size(), over = size - Source.ENTRIES_MAX, cut = 0;
        if (size == 0) {
            return;
        }
        long floor = deltas.get(size - 1).getAt() - Source.HORIZON_MS;
        while (cut < size && deltas.get(cut).getAt() < floor) {
            cut++;
        }
        if (over > cut) {
            long last = deltas.get(over - 1).getAt();
            for (cut = over; cut < size && deltas.get(cut).getAt() == last; ) {
                cut++;
            }
        }
        if (cut > 0) {
            source.setFloorAt(deltas.get(cut - 1).getAt());
            for (Delta delta : deltas.subList(0, cut)) {
                source.setCarried(source.getCarried() + delta.getQuantity());
            }
            deltas.subList(0, cut).clear();
        }
    }

    /** Reads framed updates; objects are used again where Avro can. */
    static final class UpdateReader {
        private static final int FRAME_BYTES = 5;
        private final SpecificDatumReader<StockUpdate> reader = new SpecificDatumReader<>(StockUpdate.class);
        private BinaryDecoder decoder;
        private StockUpdate update;

        StockUpdate read(byte[] framed) {
            try {
                decoder = DecoderFactory.get().binaryDecoder(framed, FRAME_BYTES, framed.length - FRAME_BYTES, decoder);
                update = reader.read(update, decoder);
                return update;
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    /** Rows to Avro and back. The stores of all tasks share one serde, so each stream thread has a codec of its own. */
    static final class RowSerde implements Serde<StockRow>, Serializer<StockRow>, Deserializer<StockRow> {
        private final ThreadLocal<RowCodec> codec = ThreadLocal.withInitial(RowCodec::new);

        @Override
        public Serializer<StockRow> serializer() {
            return this;
        }

        @Override
        public Deserializer<StockRow> deserializer() {
            return this;
        }

        @Override
        public void close() {}

        @Override
        public void configure(Map<String, ?> configs, boolean isKey) {}

        @Override
        public byte[] serialize(String topic, StockRow row) {
            return row == null ? null : codec.get().write(row);
        }

        @Override
        public StockRow deserialize(String topic, byte[] bytes) {
            return bytes == null ? null : codec.get().read(bytes);
        }
    }

    private static final class RowCodec {
        private final SpecificDatumReader<StockRow> reader = new SpecificDatumReader<>(StockRow.class);
        private final SpecificDatumWriter<StockRow> writer = new SpecificDatumWriter<>(StockRow.class);
        private final ByteArrayOutputStream out = new ByteArrayOutputStream(1024);
        private BinaryDecoder decoder;
        private BinaryEncoder encoder;

        byte[] write(StockRow row) {
            try {
                out.reset();
                encoder = EncoderFactory.get().binaryEncoder(out, encoder);
                writer.write(row, encoder);
                encoder.flush();
                return out.toByteArray();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        StockRow read(byte[] bytes) {
            try {
                decoder = DecoderFactory.get().binaryDecoder(bytes, decoder);
                return reader.read(null, decoder);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }
}

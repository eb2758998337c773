package stockweave.peer;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.function.Supplier;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import stockweave.StockRow;
import stockweave.StockUpdate;

/**
 * Stock updates to rows on Kafka Streams, exactly once.
 * Arguments: BOOTSTRAP_SERVERS TOPIC APPLICATION_ID THREADS STATE_DIR FORM, the form of a row being avro, objects or packed.
 */
public final class Fold {
    static final String STORE = "stock";
    static final long CACHE_BYTES = 512L << 20;

    private Fold() {}

    public static void main(String[] arguments) throws InterruptedException {
        var builder = new StreamsBuilder();
        var updates = builder.stream(arguments[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()));
        updates.process(folders(arguments[5]));
        var streams = new KafkaStreams(builder.build(), properties(arguments));
        var stopped = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }

    private static Properties properties(String[] arguments) {
        var properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[2]);
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[3]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "100");
        properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, Long.toString(CACHE_BYTES));
        properties.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, "10000");
        properties.put(StreamsConfig.ENABLE_METRICS_PUSH_CONFIG, "false");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), "5000");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), "4194304");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), "262144");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), "50");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return properties;
    }

    private static ProcessorSupplier<byte[], byte[], Void, Void> folders(String form) {
        return switch (form) {
            case "avro" -> folders(new AvroRow.RowSerde(), AvroFolder::new);
            case "objects" -> folders(new Row.RowSerde(), ObjectFolder::new);
            case "packed" -> folders(Serdes.ByteArray(), PackedFolder::new);
            default -> throw new IllegalArgumentException("the form is avro, objects or packed, and not " + form);
        };
    }

    /** Makes the processor of each task, with its store. */
    private static <V> ProcessorSupplier<byte[], byte[], Void, Void> folders(Serde<V> serde, Supplier<Keeper<V>> make) {
        return new ProcessorSupplier<>() {
            @Override
            public Processor<byte[], byte[], Void, Void> get() {
                return make.get();
            }

            @Override
            public Set<StoreBuilder<?>> stores() {
                var store = Stores.persistentKeyValueStore(STORE);
                var stock = Stores.keyValueStoreBuilder(store, Serdes.Bytes(), serde);
                return Set.of(stock.withCachingEnabled().withLoggingEnabled(Map.of()));
            }
        };
    }

    /** A processor that keeps rows in the store. */
    private abstract static class Keeper<V> extends ContextualProcessor<byte[], byte[], Void, Void> {
        KeyValueStore<Bytes, V> stock;

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            super.init(context);
            stock = context.getStateStore(STORE);
        }

        static void check(Source.Outcome outcome) {
            if (outcome == Source.Outcome.REJECTED) {
                throw new IllegalStateException("an update was rejected, and this profile has none such");
            }
        }
    }

    /** With the libraries that the documentation names. */
    private static final class AvroFolder extends Keeper<StockRow> {
        private final AvroRow.UpdateReader updates = new AvroRow.UpdateReader();

        @Override
        public void process(Record<byte[], byte[]> record) {
            StockUpdate update = updates.read(record.value());
            if (!Arrays.equals(record.key(), update.getSku().getBytes(StandardCharsets.UTF_8))) {
                throw new IllegalStateException("the key is not the SKU");
            }
            Bytes sku = Bytes.wrap(record.key());
            StockRow stored = stock.get(sku);
            StockRow row = stored == null ? AvroRow.empty(update.getSku()) : stored;
            Source.Outcome outcome =
                AvroRow.apply(row, update, context().recordMetadata().orElseThrow().offset());
            check(outcome);
            if (outcome == Source.Outcome.APPLIED) {
                stock.put(sku, row);
            }
        }
    }

    /** With codecs written by hand. */
    private abstract static class Folder<V> extends Keeper<V> {
        private final Update update = new Update();

        /** Folds the update into the row, which may be null; returns the row to store, or null if nothing changed. */
        abstract V fold(V row, Update update, long offset);

        @Override
        public void process(Record<byte[], byte[]> record) {
            byte[] key = record.key();
            update.read(record.value());
            int skuEnd = update.skuAt + update.skuLength;
            if (!Arrays.equals(key, 0, key.length, update.bytes, update.skuAt, skuEnd)) {
                throw new IllegalStateException("the key is not the SKU");
            }
            Bytes sku = Bytes.wrap(key);
            V changed = fold(stock.get(sku), update, context().recordMetadata().orElseThrow().offset());
            if (changed != null) {
                stock.put(sku, changed);
            }
        }
    }

    private static final class PackedFolder extends Folder<byte[]> {
        @Override
        byte[] fold(byte[] row, Update update, long offset) {
            PackedRow.Folded folded = PackedRow.fold(row, update, offset);
            check(folded.outcome());
            return folded.bytes();
        }
    }

    private static final class ObjectFolder extends Folder<Row> {
        @Override
        Row fold(Row stored, Update update, long offset) {
            Row row = stored == null ? new Row() : stored;
            Source.Outcome outcome = row.apply(update, offset);
            check(outcome);
            return outcome == Source.Outcome.APPLIED ? row : null;
        }
    }
}

package io.omni.core;

import com.google.inject.CreationException;
import com.google.inject.Guice;
import com.google.inject.Injector;
import com.google.inject.ProvisionException;
import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.DType;
import io.omni.processor.Message;
import io.omni.processor.ModelInputs;
import io.omni.processor.OmniProcessor;
import io.omni.processor.ProcessorOptions;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * Qwen3-Omni-MoE, ready to answer: a processor and a model on one backend.
 *
 * <pre>{@code
 * try (Omni omni = Omni.load(Path.of("Qwen3-Omni-30B-A3B-Instruct"))) {
 *     Reply reply = omni.chat(user(image(photo), text("What is this?")), speech("Ethan"));
 *     System.out.println(reply.text());
 *     reply.audio().write(Path.of("answer.wav"));
 * }
 * }</pre>
 *
 * <p>
 * Any number of threads may call at the same time. Closing cancels what still runs. For a conversation of several turns, keep the list of messages, and
 * add {@link Message#assistant(String)} with the reply's text before the next question.
 */
public final class Omni implements AutoCloseable {
    private final OmniProcessor processor;
    private final OmniModel model;
    private final ProcessorOptions processorDefaults;
    private final Backend ownedBackend;
    private final Calls calls = new Calls();

    Omni(OmniProcessor processor, OmniModel model, ProcessorOptions processorDefaults, Backend ownedBackend) {
        this.processor = processor;
        this.model = model;
        this.processorDefaults = processorDefaults;
        this.ownedBackend = ownedBackend;
    }

    /**
     * Loads a checkpoint folder on the best backend there is.
     *
     * @throws CheckpointException
     *             if the checkpoint cannot be read
     * @throws io.omni.api.BackendException
     *             if no backend is available
     * @throws io.omni.processor.ProcessorException
     *             if the tokenizer, the chat template or the processor's settings cannot be read
     */
    public static Omni load(Path directory) {
        return builder().load(directory);
    }

    /**
     * A processor and a model that were made apart, such as {@link OmniModel#random}, whose weights mean nothing and whose
     * speed does. Closing the result closes both, and not the backend.
     */
    public static Omni of(OmniProcessor processor, OmniModel model) {
        return new Omni(processor, model, ProcessorOptions.defaults(), null);
    }

    /** Chooses backend, types and limits before loading. */
    public static Builder builder() {
        return new Builder();
    }

    /** What differs from the defaults when a checkpoint is loaded. */
    public static final class Builder {
        private String backendName;
        private Backend backend;
        private int threads;
        private Map<String, String> properties = Map.of();
        private DType weights;
        private DType cacheType = DType.F32;
        private boolean speech = true;
        private double warmUp;
        private final ProcessorOptions.Builder processor = ProcessorOptions.builder();

        private Builder() {}

        /** The backend to start, by name; without it, the best available. */
        public Builder backend(String name) {
            backendName = name;
            return this;
        }

        /** A backend that is already open, which stays the caller's to close. */
        public Builder backend(Backend open) {
            backend = open;
            return this;
        }

        /** Host threads that compute; 0, the default, for all processors. */
        public Builder threads(int count) {
            threads = count;
            return this;
        }

        /** Settings that the backend knows. */
        public Builder backendProperties(Map<String, String> settings) {
            properties = settings;
            return this;
        }

        /**
         * Converts matrices to this type, in memory; without it they keep the type they are stored in. A quantised type
         * takes the matrices that {@link Quantizer} says.
         */
        public Builder weights(DType type) {
            weights = type;
            return this;
        }

        /**
         * Keeps keys and values of the Thinker's and the Talker's attention in this type: F32, the default, or I8, which takes
         * about a quarter of the memory of long conversations, for a small error; see {@link io.omni.api.CacheSpec}.
         */
        public Builder kvCache(DType type) {
            cacheType = Objects.requireNonNull(type, "type");
            return this;
        }

        /** Whether to load what speaks; true unless told otherwise. */
        public Builder speech(boolean load) {
            speech = load;
            return this;
        }

        /**
         * Spends about this many seconds, beside the loading, on running small random models, so that the JVM has compiled
         * what the first request needs and answers it as fast as later ones; 0, the default, for none.
         */
        public Builder warmUp(double seconds) {
            warmUp = seconds;
            return this;
        }

        /** Settings for reading media and prompts, such as pixel limits, that calls start from. */
        public Builder processor(Consumer<ProcessorOptions.Builder> settings) {
            settings.accept(processor);
            return this;
        }

        /** Loads a checkpoint folder; see {@link Omni#load}. */
        public Omni load(Path directory) {
            if (!Files.isDirectory(directory))
                throw new CheckpointException(directory + ": no such folder");
            ProcessorOptions settings = processor.build();
            BackendOptions options = new BackendOptions(threads, properties);
            Backend chosen = backend != null
                    ? backend
                    : backendName != null ? Backends.load(backendName, options) : Backends.best(options);
            Deque<Runnable> undo = new ArrayDeque<>();
            if (backend == null)
                undo.push(chosen::close);
            try (WarmUp warming = new WarmUp(chosen, speech, warmUp)) {
                Injector injector = Guice.createInjector(new OmniModule(directory, chosen, weights, cacheType, speech));
                // what is quick to make or to find wrong comes first
                injector.getInstance(OmniConfig.class);
                OmniProcessor reader = injector.getInstance(OmniProcessor.class);
                undo.push(reader::close);
                OmniModel loaded = injector.getInstance(OmniModel.class);
                undo.push(loaded::close);
                warming.read(reader);
                return new Omni(reader, loaded, settings, backend == null ? chosen : null);
            } catch (RuntimeException | Error e) {
                undo.forEach(Runnable::run);
                boolean guice = e instanceof CreationException || e instanceof ProvisionException;
                if (guice && e.getCause() instanceof RuntimeException cause)
                    throw cause;
                if (guice && e.getCause() instanceof Error cause)
                    throw cause;
                throw e;
            }
        }
    }

    public OmniProcessor processor() {
        return processor;
    }

    public OmniModel model() {
        return model;
    }

    /** Settings for reading media and prompts that calls start from. */
    public ProcessorOptions processorDefaults() {
        return processorDefaults;
    }

    /** Answers one message with {@link Options#defaults}. */
    public Reply chat(Message message) {
        return chat(List.of(message), Options.defaults());
    }

    /** Answers one message. */
    public Reply chat(Message message, Options options) {
        return chat(List.of(message), options);
    }

    /**
     * Answers a conversation.
     *
     * @throws io.omni.processor.ProcessorException
     *             if a medium cannot be read or does not fit
     * @throws IllegalArgumentException
     *             if an option does not fit, such as an unknown speaker, or the prompt is longer than the context
     * @throws IllegalStateException
     *             if speech is wanted of a model that cannot speak, or this is closed
     * @throws java.util.concurrent.CancellationException
     *             if this is closed meanwhile
     */
    public Reply chat(List<Message> conversation, Options options) {
        return chatBatch(List.of(conversation), options).getFirst();
    }

    /** Answers several conversations at once, each as it would be answered alone; see {@link #chat(List, Options)}. */
    public List<Reply> chatBatch(List<List<Message>> conversations, Options options) {
        return chatBatch(conversations, Collections.nCopies(conversations.size(), options));
    }

    /** Answers several conversations at once, each with options of its own; see {@link #chat(List, Options)}. */
    public List<Reply> chatBatch(List<List<Message>> conversations, List<Options> options) {
        long start = System.nanoTime();
        if (conversations.isEmpty())
            return List.of();
        Cancellation call = calls.begin();
        try {
            return generation(conversations, options, event -> {
            }, call, start).run();
        } finally {
            calls.end(call);
        }
    }

    /** Answers one message, telling text and sound as they come. */
    public ReplyStream stream(Message message, Options options) {
        return stream(List.of(message), options);
    }

    /** Answers a conversation, telling text and sound as they come; see {@link #chat(List, Options)} for errors. */
    public ReplyStream stream(List<Message> conversation, Options options) {
        return streamBatch(List.of(conversation), options);
    }

    /** Answers several conversations at once, telling text and sound as they come. */
    public ReplyStream streamBatch(List<List<Message>> conversations, Options options) {
        long start = System.nanoTime();
        // the caller's lists may change before they are read
        List<List<Message>> asked = conversations.stream().map(List::copyOf).toList();
        List<Options> all = Collections.nCopies(asked.size(), options);
        Cancellation call = calls.begin();
        return new ReplyStream(call, events -> asked.isEmpty()
                ? List.of()
                : generation(asked, all, events, call, start).run(), () -> calls.end(call));
    }

    Generation generation(List<List<Message>> conversations, List<Options> options, Consumer<Event> sink,
            Cancellation cancellation, long start) {
        if (options.size() != conversations.size())
            throw new IllegalArgumentException(
                    options.size() + " options for " + conversations.size() + " conversations");
        // before media are read, which may take long
        List<Generation.Request> requests = options.stream().map(each -> Generation.Request.of(model, each)).toList();
        List<ModelInputs> inputs = new java.util.ArrayList<>();
        for (int i = 0; i < options.size(); i++) {
            ProcessorOptions chosen = options.get(i).processor();
            inputs.addAll(
                    processor.process(List.of(conversations.get(i)), chosen == null ? processorDefaults : chosen));
        }
        return new Generation(model, processor.tokenizer(), inputs, requests, sink, cancellation, start);
    }

    /**
     * Cancels the calls that run and waits for them to stop, then frees the weights, the tokenizer, and the backend unless
     * the caller brought it. Nobody may be using {@link #model} or {@link #processor} then. Closing twice does nothing.
     */
    @Override
    public void close() {
        calls.close();
        model.close();
        processor.close();
        if (ownedBackend != null)
            ownedBackend.close();
    }
}

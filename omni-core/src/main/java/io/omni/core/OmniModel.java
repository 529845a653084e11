package io.omni.core;

import io.omni.api.Backend;
import io.omni.api.DType;
import java.nio.file.Path;

/**
 * The model's parts on one backend. Upstream: {@code Qwen3OmniMoeForConditionalGeneration}. Closing it frees the weights
 * but not the backend; nothing of it may run then.
 */
public final class OmniModel implements AutoCloseable {
    private final Backend backend;
    private final OmniConfig config;
    private final GenerationConfig generationConfig;
    private final Weights weights;
    private final Thinker thinker;
    private final Talker talker;
    private final Code2Wav code2Wav;

    private OmniModel(OmniConfig config, GenerationConfig generationConfig, Weights weights, DType cacheType,
            boolean speech) {
        backend = weights.backend();
        this.config = config;
        this.generationConfig = generationConfig;
        this.weights = weights;
        boolean whole = config.modelType().equals(OmniConfig.OMNI);
        thinker = new Thinker(config.thinker(), whole ? weights.at("thinker") : weights, cacheType);
        talker = speech ? new Talker(config, thinker, weights.at("talker"), cacheType) : null;
        code2Wav = speech ? new Code2Wav(config.code2Wav(), weights.at("code2wav")) : null;
    }

    /**
     * Loads a checkpoint folder, mapping its weights.
     *
     * @param matrixType
     *            what matrices are converted to, or null to keep the type they are stored in; a quantised type takes the
     *            matrices that {@link Quantizer} says
     * @param cacheType
     *            of the Thinker's and the Talker's keys and values, F32 or I8; see {@link io.omni.api.CacheSpec}
     * @param speech
     *            whether to load the Talker and Code2Wav, where the checkpoint has them
     * @throws CheckpointException
     *             if a file, tensor or field is missing or not what it should be
     * @throws IllegalArgumentException
     *             if the backend has no caches of this type
     */
    public static OmniModel load(Backend backend, Path directory, DType matrixType, DType cacheType,
            boolean speech) {
        OmniConfig config = OmniConfig.read(directory);
        GenerationConfig generation = GenerationConfig.read(directory, config);
        boolean wanted = speech && config.enableAudioOutput();
        Checkpoint checkpoint = Checkpoint.open(directory,
                name -> wanted || !name.startsWith("talker.") && !name.startsWith("code2wav."));
        boolean speaks = wanted && checkpoint.hasAny("talker.");
        return build(config, generation, new Weights(backend, checkpoint, matrixType), cacheType, speaks);
    }

    /**
     * A model from a configuration alone, with seeded random weights.
     *
     * @param matrixType
     *            what matrices are made in, or null for bfloat16
     * @param cacheType
     *            as in {@link #load}
     */
    public static OmniModel random(Backend backend, OmniConfig config, long seed, DType matrixType,
            DType cacheType) {
        double deviation = config.thinker().text().initializerRange();
        Weights weights = new Weights(backend, new RandomWeights(seed, deviation, matrixType), matrixType);
        return build(config, GenerationConfig.defaults(config), weights, cacheType, config.enableAudioOutput());
    }

    private static OmniModel build(OmniConfig config, GenerationConfig generation, Weights weights, DType cacheType,
            boolean speech) {
        try {
            if (!weights.backend().cacheTypes().contains(cacheType))
                throw new IllegalArgumentException("a cache of type " + cacheType + ", but backend "
                        + weights.backend().name() + " has " + weights.backend().cacheTypes());
            return new OmniModel(config, generation, weights, cacheType, speech);
        } catch (RuntimeException | Error e) {
            weights.close();
            throw e;
        }
    }

    /** What it computes on; not closed with the model. */
    public Backend backend() {
        return backend;
    }

    /** Sizes and token ids of all parts. */
    public OmniConfig config() {
        return config;
    }

    /** The checkpoint's defaults for generation. */
    public GenerationConfig generationConfig() {
        return generationConfig;
    }

    /** The Thinker. */
    public Thinker thinker() {
        return thinker;
    }

    /** Whether there is a Talker. */
    public boolean canSpeak() {
        return talker != null;
    }

    /**
     * The Talker.
     *
     * @throws IllegalStateException
     *             if the checkpoint has none or it was not loaded
     */
    public Talker talker() {
        return speech(talker);
    }

    /**
     * Code2Wav.
     *
     * @throws IllegalStateException
     *             if the checkpoint has none or it was not loaded
     */
    public Code2Wav code2Wav() {
        return speech(code2Wav);
    }

    private static <T> T speech(T part) {
        if (part == null)
            throw new IllegalStateException(
                    "this model cannot speak: the checkpoint has no Talker, or it was loaded without speech");
        return part;
    }

    @Override
    public void close() {
        weights.close();
    }
}

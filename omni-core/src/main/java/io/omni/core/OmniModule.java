package io.omni.core;

import com.google.inject.AbstractModule;
import com.google.inject.Provides;
import com.google.inject.Singleton;
import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.processor.OmniProcessor;
import java.nio.file.Path;

/**
 * Binds a checkpoint's processor and model, singletons that the application closes, on an open backend. For an application that is wired with Guice itself; others
 * use {@link Omni#load}.
 */
public final class OmniModule extends AbstractModule {
    private final Path directory;
    private final Backend backend;
    private final DType matrixType;
    private final DType cacheType;
    private final boolean speech;

    /**
     * @param matrixType
     *            what matrices are converted to, or null to keep the type they are stored in
     * @param speech
     *            whether to load what speaks
     */
    public OmniModule(Path directory, Backend backend, DType matrixType, boolean speech) {
        this(directory, backend, matrixType, DType.F32, speech);
    }

    /** The same with caches of this type, F32 or I8. */
    public OmniModule(Path directory, Backend backend, DType matrixType, DType cacheType, boolean speech) {
        this.directory = directory;
        this.backend = backend;
        this.matrixType = matrixType;
        this.cacheType = cacheType;
        this.speech = speech;
    }

    @Override
    protected void configure() {
        bind(Backend.class).toInstance(backend);
    }

    @Provides
    @Singleton
    OmniConfig config() {
        return OmniConfig.read(directory);
    }

    @Provides
    @Singleton
    OmniProcessor processor() {
        return OmniProcessor.load(directory);
    }

    @Provides
    @Singleton
    OmniModel model() {
        return OmniModel.load(backend, directory, matrixType, cacheType, speech);
    }
}

package io.omni.api;

import io.omni.api.BackendProvider.Availability.Available;
import io.omni.api.BackendProvider.Availability.Unavailable;
import java.util.Comparator;
import java.util.List;
import java.util.ServiceConfigurationError;
import java.util.ServiceLoader;
import java.util.stream.Collectors;

/** Finds the backends on the class path. */
public final class Backends {
    /** System property that names the backend for {@link #best}. */
    public static final String PROPERTY = "omni.backend";

    private Backends() {}

    /**
     * Every provider found, the preferred one first.
     *
     * @throws BackendException
     *             if a jar names a provider that cannot be made
     */
    public static List<BackendProvider> providers() {
        try {
            return ServiceLoader.load(BackendProvider.class, Backends.class.getClassLoader()).stream()
                    .map(ServiceLoader.Provider::get)
                    .sorted(Comparator.comparingInt(BackendProvider::priority).reversed()
                            .thenComparing(BackendProvider::name))
                    .toList();
        } catch (ServiceConfigurationError e) {
            throw new BackendException("a jar on the class path names a backend that is not there: " + e.getMessage(),
                    e);
        }
    }

    /**
     * Starts the backend of this name.
     *
     * @throws BackendException
     *             if none has that name, with the names there are, or if it is not available, with the reason
     */
    public static Backend load(String name, BackendOptions options) {
        List<BackendProvider> providers = providers();
        for (BackendProvider provider : providers)
            if (provider.name().equals(name))
            return create(provider, options);
        throw new BackendException("unknown backend '" + name + "', expected one of "
                + providers.stream().map(BackendProvider::name).toList());
    }

    /** Starts the backend of this name with {@link BackendOptions#defaults}. */
    public static Backend load(String name) {
        return load(name, BackendOptions.defaults());
    }

    /**
     * Starts the backend that the system property {@value #PROPERTY} names, else the preferred one that is available.
     *
     * @throws BackendException
     *             if none is available, with each one's reason
     */
    public static Backend best(BackendOptions options) {
        String chosen = System.getProperty(PROPERTY);
        if (chosen != null)
            return load(chosen, options);
        List<BackendProvider> providers = providers();
        for (BackendProvider provider : providers)
            if (provider.availability() instanceof Available)
            return provider.create(options);
        throw new BackendException(providers.isEmpty()
                ? "no backend on the class path: add omni-backend-cpu or another"
                : providers.stream().map(p -> p.name() + ": " + ((Unavailable) p.availability()).reason())
                        .collect(Collectors.joining("; ", "no backend is available: ", "")));
    }

    private static Backend create(BackendProvider provider, BackendOptions options) {
        if (provider.availability() instanceof Unavailable(String reason))
            throw new BackendException("backend '" + provider.name() + "' is not available: " + reason);
        return provider.create(options);
    }
}

package io.omni.api;

import java.util.Map;

/**
 * How a backend is started.
 *
 * @param threads
 *            host threads that compute; 0 for all processors
 * @param properties
 *            settings that one backend knows, by the names in its documentation
 */
public record BackendOptions(int threads, Map<String, String> properties) {
    /** @throws IllegalArgumentException for a negative number of threads */
    public BackendOptions {
        if (threads < 0)
            throw new IllegalArgumentException("threads " + threads + ", expected 0 or more");
        properties = Map.copyOf(properties);
    }

    /** All processors, nothing special. */
    public static BackendOptions defaults() {
        return new BackendOptions(0, Map.of());
    }
}

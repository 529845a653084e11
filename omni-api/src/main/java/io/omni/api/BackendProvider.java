package io.omni.api;

/**
 * Makes one kind of backend; found through {@link java.util.ServiceLoader}. Its constructor must do nothing that can
 * fail or is slow.
 */
public interface BackendProvider {
    /** What a user types to choose it, in lower case, such as {@code cpu}. */
    String name();

    /** Where it stands when the user does not choose: the available provider with the largest value wins. */
    int priority();

    /** Whether it would start on this machine. */
    Availability availability();

    /**
     * Starts a backend.
     *
     * @throws BackendException
     *             if it is not available, with {@link Availability.Unavailable#reason()}
     */
    Backend create(BackendOptions options);

    /** The answer of {@link BackendProvider#availability()}. */
    sealed interface Availability {
        /** It would start on this device. */
        record Available(Device device) implements Availability {}

        /** It would not; the reason is a clause for the user, such as "no NVIDIA driver: libcuda.so.1 not found". */
        record Unavailable(String reason) implements Availability {}
    }
}

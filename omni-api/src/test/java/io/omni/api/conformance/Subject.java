package io.omni.api.conformance;

import io.omni.api.Backend;
import io.omni.api.DType;
import java.util.List;
import java.util.Optional;

/** What the parts of the suite share: the backend under test, and arguments for it. */
public interface Subject {
    Backend backend();

    /** Another backend of the same kind, which the caller closes. */
    Backend another();

    /** A backend with little memory, which the caller closes, if the author knows how to start one. */
    Optional<Backend> small();

    Cases cases();

    /** What {@link Backend#weightTypes} lists, in one order: a set's is another in each JVM, and a seed would not repeat. */
    default List<DType> matrixTypes() {
        return backend().weightTypes().stream().sorted().toList();
    }
}

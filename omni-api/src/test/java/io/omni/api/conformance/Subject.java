package io.omni.api.conformance;

import io.omni.api.Backend;

/** What the parts of the suite share: the backend under test, and arguments for it. */
public interface Subject {
    Backend backend();

    /** Another backend of the same kind, which the caller closes. */
    Backend another();

    Cases cases();
}

package io.omni.api;

/** A backend has no room for what was asked. The backend stays usable: close something and try again. */
public final class OutOfMemoryException extends BackendException {
    private static final long serialVersionUID = 1;

    /** @param message one line for the user */
    public OutOfMemoryException(String message) {
        super(message);
    }
}

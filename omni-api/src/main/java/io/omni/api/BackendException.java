package io.omni.api;

/** A backend could not be found, started, or made to do what was asked; the message is one line, fit for the user. */
public class BackendException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** @param message one line for the user */
    public BackendException(String message) {
        super(message);
    }

    /**
     * @param message one line for the user
     * @param cause what went wrong beneath
     */
    public BackendException(String message, Throwable cause) {
        super(message, cause);
    }
}

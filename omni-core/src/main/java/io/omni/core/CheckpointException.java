package io.omni.core;

/** A checkpoint cannot be read; the message is one line that names the file, tensor or field and what was expected. */
public final class CheckpointException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** @param message one line for the user */
    public CheckpointException(String message) {
        super(message);
    }

    /**
     * @param message one line for the user
     * @param cause what went wrong beneath
     */
    public CheckpointException(String message, Throwable cause) {
        super(message, cause);
    }
}

package io.omni.core;

/** A checkpoint cannot be read; the message is one line that names the file, tensor or field and what was expected. */
public final class CheckpointException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public CheckpointException(String message) {
        super(message);
    }

    public CheckpointException(String message, Throwable cause) {
        super(message, cause);
    }
}

package io.omni.processor;

/**
 * Something about the messages, the media or the checkpoint's processor files is wrong. The message is one line that
 * names the file or field, what was found and what was expected.
 */
public final class ProcessorException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** @param message one line for the user */
    public ProcessorException(String message) {
        super(oneLine(message));
    }

    /**
     * @param message one line for the user
     * @param cause what went wrong beneath
     */
    public ProcessorException(String message, Throwable cause) {
        super(oneLine(message), cause);
    }

    /** As much of a text as a message may quote. */
    static String quoted(String text) {
        return text.length() <= 60 ? text : text.substring(0, 60) + "…";
    }

    /** What lies beneath all that wrapped it. */
    static Throwable root(Throwable e) {
        return e.getCause() == null ? e : root(e.getCause());
    }

    private static String oneLine(String message) {
        return message.strip().replaceAll("\\s*\\R\\s*", " ");
    }
}

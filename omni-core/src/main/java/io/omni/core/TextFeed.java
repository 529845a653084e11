package io.omni.core;

import java.util.ArrayList;
import java.util.List;

/** The text of one answer on its way from the Thinker to the Talker, token by token. */
final class TextFeed {
    private final Cancellation lock;
    private final List<Integer> tokens = new ArrayList<>();
    private boolean ended;

    TextFeed(Cancellation lock) {
        this.lock = lock;
    }

    void add(int token) {
        lock.update(() -> tokens.add(token));
    }

    void end() {
        lock.update(() -> ended = true);
    }

    /**
     * Waits for token {@code i}.
     *
     * @return the token; {@code eos} where the text ends; {@code pad} after that
     */
    int take(int i, int eos, int pad) {
        lock.await(() -> ended || i < tokens.size());
        return lock.read(() -> i < tokens.size() ? tokens.get(i) : i == tokens.size() ? eos : pad);
    }

    /** Waits until it is known whether there is any text. */
    boolean isEmpty() {
        lock.await(() -> ended || !tokens.isEmpty());
        return lock.read(tokens::isEmpty);
    }
}

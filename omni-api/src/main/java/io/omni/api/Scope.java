package io.omni.api;

/**
 * Owns the tensors that operations make on one thread while it is the innermost open scope there, and frees them when it
 * closes. Scopes nest.
 *
 * <p>
 * A scope belongs to the thread that opened it: every call of another thread throws {@link IllegalStateException}, and so
 * does closing a scope while one within it is open, and keeping or detaching once it is closed. None of these changes
 * anything.
 */
public interface Scope extends AutoCloseable {
    /**
     * Hands a tensor of this scope to the enclosing one, or to the caller when there is none, so that it outlives this
     * scope. A tensor that this scope does not own is returned as it is.
     */
    Tensor keep(Tensor tensor);

    /** Takes a tensor out of this scope for good: the caller owns it, may pass it to other threads, and closes it. */
    Tensor detach(Tensor tensor);

    /** Frees what the scope still owns. Closing twice does nothing, on any thread. */
    @Override
    void close();
}

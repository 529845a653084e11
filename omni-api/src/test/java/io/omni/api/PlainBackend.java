package io.omni.api;

import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Deque;
import java.util.EnumSet;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.Set;

/** The smallest backend there can be: arrays on the heap, and the default of every operation. */
public class PlainBackend implements Backend {
    private final ThreadLocal<Deque<PlainScope>> scopes = ThreadLocal.withInitial(ArrayDeque::new);

    private volatile boolean closed;

    private final TensorOps tensorOps = () -> this;
    private final AttentionOps attentionOps = () -> this;
    private final MoeOps moeOps = () -> this;
    private final ConvOps convOps = () -> this;

    @Override
    public String name() {
        return "plain";
    }

    @Override
    public Device device() {
        return new Device("the Java heap", "", -1, -1);
    }

    @Override
    public Set<DType> weightTypes() {
        return EnumSet.of(DType.F32, DType.F16, DType.BF16, DType.Q8, DType.Q4);
    }

    @Override
    public double precision() {
        return 1e-6;
    }

    @Override
    public Scope scope() {
        checkOpen();
        PlainScope scope = new PlainScope();
        scopes.get().push(scope);
        return scope;
    }

    @Override
    public Tensor tensor(float[] values, int... shape) {
        return owned(new PlainTensor(values.clone(), null, Shapes.tensor(values.length, shape)));
    }

    @Override
    public Tensor tensor(int[] values, int... shape) {
        return owned(new PlainTensor(null, values.clone(), Shapes.tensor(values.length, shape)));
    }

    private void checkOpen() {
        if (closed)
            throw new IllegalStateException("the backend is closed");
    }

    private Tensor owned(PlainTensor tensor) {
        checkOpen();
        PlainScope scope = scopes.get().peek();
        if (scope == null)
            throw new IllegalStateException("no scope is open on this thread");
        scope.tensors.add(tensor);
        return tensor;
    }

    @Override
    public Tensor weight(HostTensor host, WeightRole role) {
        checkOpen();
        int[] shape = Shapes.weight(host, role, weightTypes());
        return new PlainTensor(host.toFloats(), null, shape);
    }

    @Override
    public TensorOps tensorOps() {
        return tensorOps;
    }

    @Override
    public AttentionOps attentionOps() {
        return attentionOps;
    }

    @Override
    public MoeOps moeOps() {
        return moeOps;
    }

    @Override
    public ConvOps convOps() {
        return convOps;
    }

    @Override
    public long allocatedBytes() {
        return 0;
    }

    @Override
    public void close() {
        closed = true;
    }

    private final class PlainScope implements Scope {
        private final Deque<PlainScope> open = scopes.get();
        private final Set<Tensor> tensors = Collections.newSetFromMap(new IdentityHashMap<>());
        private boolean closed;

        @Override
        public Tensor keep(Tensor tensor) {
            checkUsable();
            if (tensors.remove(tensor)) {
                Iterator<PlainScope> outwards = open.iterator();
                while (outwards.next() != this) {
                }
                if (outwards.hasNext())
                    outwards.next().tensors.add(tensor);
            }
            return tensor;
        }

        @Override
        public Tensor detach(Tensor tensor) {
            checkUsable();
            tensors.remove(tensor);
            return tensor;
        }

        @Override
        public void close() {
            if (closed)
                return;
            checkUsable();
            if (open.peek() != this)
                throw new IllegalStateException("a scope within this one is still open");
            open.pop();
            closed = true;
            tensors.forEach(Tensor::close);
            tensors.clear();
        }

        private void checkUsable() {
            if (closed || open != scopes.get())
                throw new IllegalStateException("the scope is closed, or of another thread");
        }
    }

    private final class PlainTensor implements Tensor {
        private float[] floats;
        private int[] ints;
        private final boolean integral;
        private final int[] shape;

        PlainTensor(float[] floats, int[] ints, int[] shape) {
            this.floats = floats;
            this.ints = ints;
            this.shape = shape;
            integral = ints != null;
        }

        @Override
        public int[] shape() {
            return shape;
        }

        @Override
        public DType dtype() {
            return integral ? DType.I32 : DType.F32;
        }

        @Override
        public Backend backend() {
            return PlainBackend.this;
        }

        @Override
        public float[] toFloats() {
            checkOpen();
            if (floats == null && ints == null)
                throw new IllegalStateException("the tensor is closed");
            float[] values = floats == null ? new float[ints.length] : floats.clone();
            for (int i = 0; floats == null && i < values.length; i++)
                values[i] = ints[i];
            return values;
        }

        @Override
        public int[] toInts() {
            checkOpen();
            if (ints == null)
                throw new IllegalStateException("the tensor is closed, or of floats");
            return ints.clone();
        }

        @Override
        public void close() {
            floats = null;
            ints = null;
        }
    }
}

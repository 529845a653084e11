package io.omni.backend.onnx;

import io.omni.backend.onnx.Storage.OnnxType;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/**
 * Nodes in the order they were recorded, and the part of them that some outputs need, numbered and named. Two graphs of
 * one structure have equal {@link #key}s and run in one session; lengths are not part of it.
 */
final class Graph {
    /** What a node reads. */
    sealed interface Value permits Input, Initializer, Constant, Output {}

    /** Fed anew in each run. */
    record Input(Storage storage) implements Value {}

    /** Belongs to the session; such graphs are not told apart by their keys. */
    record Initializer(Storage storage) implements Value {}

    /** Part of the structure. */
    record Constant(OnnxType type, long[] dims, byte[] data) implements Value {}

    /** Result {@code index} of a node. */
    record Output(Node node, int index, OnnxType type) implements Value {}

    /** A parameter that is part of the structure: a Long, Float, String or long[]. */
    record Attribute(String name, Object value) {}

    /** One operator; compared by identity. */
    static final class Node {
        final String operator;
        final String domain;
        final List<Attribute> attributes;
        final Value[] inputs;
        final int outputs;

        Node(String operator, String domain, List<Attribute> attributes, int outputs, Value... inputs) {
            this.operator = operator;
            this.domain = domain;
            this.attributes = attributes;
            this.inputs = inputs;
            this.outputs = outputs;
        }
    }

    final List<Node> nodes = new ArrayList<>();
    final List<Storage> inputs = new ArrayList<>();
    final List<Output> outputs;
    final List<Storage> initializers = new ArrayList<>();
    final List<Constant> constants = new ArrayList<>();
    final String key;
    private final Map<Node, Integer> numbers = new IdentityHashMap<>();
    private final Map<Storage, String> inputNames = new IdentityHashMap<>();
    private final Map<String, String> constantNames = new HashMap<>();
    private final Map<Node, Map<Integer, String>> outputNames = new IdentityHashMap<>();

    /** The nodes among {@code recorded}, which are in topological order, that the outputs need. */
    Graph(List<Node> recorded, List<Output> outputs) {
        this.outputs = outputs;
        Map<Node, Boolean> needed = new IdentityHashMap<>();
        for (int i = 0; i < outputs.size(); i++) {
            needed.put(outputs.get(i).node(), true);
            outputNames.computeIfAbsent(outputs.get(i).node(), _ -> new HashMap<>()).put(outputs.get(i).index(),
                    "o" + i);
        }
        for (Node node : recorded.reversed())
            if (needed.containsKey(node))
            for (Value value : node.inputs)
                if (value instanceof Output output)
                needed.put(output.node(), true);
        var structure = new StringBuilder();
        for (Node node : recorded) {
            if (!needed.containsKey(node))
                continue;
            numbers.put(node, nodes.size());
            nodes.add(node);
            structure.append(node.operator).append('@').append(node.domain);
            for (Attribute attribute : node.attributes) {
                structure.append(' ').append(attribute.name()).append('=');
                if (attribute.value() instanceof long[] numbers)
                    structure.append(Arrays.toString(numbers));
                else
                    structure.append(attribute.value());
            }
            structure.append('(');
            for (Value value : node.inputs)
                structure.append(name(value, structure)).append(' ');
            structure.append(')').append(node.outputs).append('\n');
        }
        for (Output output : outputs)
            structure.append(numbers.get(output.node())).append('.').append(output.index()).append(' ');
        key = structure.toString();
    }

    String name(Value value) {
        return name(value, new StringBuilder());
    }

    String outputName(Node node, int index) {
        Map<Integer, String> named = outputNames.get(node);
        String name = named == null ? null : named.get(index);
        return name != null ? name : "v" + numbers.get(node) + "_" + index;
    }

    private String name(Value value, StringBuilder structure) {
        return switch (value) {
            case null -> "";
            case Output(Node node, int index, OnnxType _) -> outputName(node, index);
            case Input(Storage storage) -> inputNames.computeIfAbsent(storage, _ -> {
                structure.append(storage.type).append(storage.rank).append(':');
                inputs.add(storage);
                return "i" + (inputs.size() - 1);
            });
            case Initializer(Storage storage) -> {
                if (!initializers.contains(storage))
                    initializers.add(storage);
                yield "w" + initializers.indexOf(storage);
            }
            case Constant constant -> {
                String content = constant.type() + Arrays.toString(constant.dims()) + Arrays.toString(constant.data());
                yield constantNames.computeIfAbsent(content, _ -> {
                    structure.append(content).append(':');
                    constants.add(constant);
                    return "c" + (constants.size() - 1);
                });
            }
        };
    }
}

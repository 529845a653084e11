package io.omni.backend.onnx;

import com.google.protobuf.CodedOutputStream;
import io.omni.backend.onnx.Graph.Attribute;
import io.omni.backend.onnx.Graph.Constant;
import io.omni.backend.onnx.Graph.Node;
import io.omni.backend.onnx.Graph.Output;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;

/** Writes a graph in the ONNX model format; the numbers are the fields of onnx.proto. */
final class ModelWriter {
    private static final int IR_VERSION = 11;
    private static final int OPSET = 23;

    private ModelWriter() {}

    static byte[] write(Graph graph) {
        return message(model -> {
            model.writeInt64(1, IR_VERSION);
            model.writeString(2, "omni");
            nested(model, 7, g -> graph(g, graph));
            nested(model, 8, opset -> {
                opset.writeString(1, "");
                opset.writeInt64(2, OPSET);
            });
            nested(model, 8, opset -> {
                opset.writeString(1, Recording.MICROSOFT);
                opset.writeInt64(2, 1);
            });
        });
    }

    private static void graph(CodedOutputStream out, Graph graph) throws IOException {
        for (Node node : graph.nodes)
            nested(out, 1, n -> node(n, graph, node));
        out.writeString(2, "pending");
        for (Constant constant : graph.constants)
            nested(out, 5, tensor -> {
                for (long dim : constant.dims())
                    tensor.writeInt64(1, dim);
                tensor.writeInt32(2, constant.type().number);
                tensor.writeString(8, graph.name(constant));
                tensor.writeByteArray(9, constant.data());
            });
        for (int i = 0; i < graph.initializers.size(); i++)
            initializer(out, "w" + i, graph.initializers.get(i));
        for (int i = 0; i < graph.inputs.size(); i++)
            value(out, 11, "i" + i, graph.inputs.get(i).type, graph.inputs.get(i).rank);
        for (Output output : graph.outputs)
            value(out, 12, graph.outputName(output.node(), output.index()), output.type(), -1);
    }

    private static void node(CodedOutputStream out, Graph graph, Node node) throws IOException {
        for (Graph.Value input : node.inputs)
            out.writeString(1, graph.name(input));
        for (int i = 0; i < node.outputs; i++)
            out.writeString(2, graph.outputName(node, i));
        out.writeString(4, node.operator);
        for (Attribute attribute : node.attributes)
            nested(out, 5, a -> attribute(a, attribute));
        out.writeString(7, node.domain);
    }

    /** Its elements are handed over when the session is opened. */
    private static void initializer(CodedOutputStream out, String name, Storage storage) throws IOException {
        nested(out, 5, tensor -> {
            for (long dim : storage.tensor.getInfo().getShape())
                tensor.writeInt64(1, dim);
            tensor.writeInt32(2, storage.type.number);
            tensor.writeString(8, name);
            nested(tensor, 13, entry -> {
                entry.writeString(1, "location");
                entry.writeString(2, "memory");
            });
            tensor.writeEnum(14, 1);
        });
    }

    private static void attribute(CodedOutputStream out, Attribute attribute) throws IOException {
        out.writeString(1, attribute.name());
        switch (attribute.value()) {
            case Float f -> {
                out.writeFloat(2, f);
                out.writeEnum(20, 1);
            }
            case Long i -> {
                out.writeInt64(3, i);
                out.writeEnum(20, 2);
            }
            case String s -> {
                out.writeString(4, s);
                out.writeEnum(20, 3);
            }
            case long[] ints -> {
                for (long i : ints)
                    out.writeInt64(8, i);
                out.writeEnum(20, 7);
            }
            default -> throw new IllegalArgumentException("attribute " + attribute);
        }
    }

    /** Dimensions of a known rank are left open, so that one session serves every length. */
    private static void value(CodedOutputStream out, int field, String name, Storage.OnnxType type, int rank)
            throws IOException {
        nested(out, field, info -> {
            info.writeString(1, name);
            nested(info, 2, t -> nested(t, 1, tensor -> {
                tensor.writeInt32(1, type.number);
                if (rank >= 0)
                    nested(tensor, 2, shape -> {
                        for (int i = 0; i < rank; i++)
                            nested(shape, 1, _ -> {
                            });
                    });
            }));
        });
    }

    private interface Body {
        void write(CodedOutputStream out) throws IOException;
    }

    private static void nested(CodedOutputStream out, int field, Body body) throws IOException {
        out.writeByteArray(field, message(body));
    }

    private static byte[] message(Body body) {
        var bytes = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(bytes);
        try {
            body.write(out);
            out.flush();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return bytes.toByteArray();
    }
}

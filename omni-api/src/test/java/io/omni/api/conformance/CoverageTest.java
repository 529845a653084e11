package io.omni.api.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.AttentionOps;
import io.omni.api.ConvOps;
import io.omni.api.MoeOps;
import io.omni.api.TensorOps;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** An operation added to the SPI without a test of its name is noticed here. */
class CoverageTest {
    @Test
    void everyOperationHasATestOfItsName() {
        Set<String> tests = Arrays.stream(BackendConformance.class.getMethods())
                .filter(method -> method.isAnnotationPresent(Test.class)).map(Method::getName)
                .collect(Collectors.toSet());
        Set<String> operations = Stream.of(TensorOps.class, AttentionOps.class, MoeOps.class, ConvOps.class)
                .flatMap(ops -> Arrays.stream(ops.getMethods())).filter(Method::isDefault).map(Method::getName)
                .collect(Collectors.toSet());
        assertThat(tests).containsAll(operations).contains("attendCached", "truncate");
    }
}

package io.omni.backend.cuda;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import io.omni.api.BackendProvider.Availability.Unavailable;
import java.io.PrintWriter;
import java.util.Arrays;
import java.util.List;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;

/**
 * The tests that a card can run, where there is no Maven: all of them, or the classes that the arguments name, or none
 * with --ask. Exits with 2 if there is no card, and with 1 if a test fails or none was run.
 */
final class RunOnCard {
    private static final List<Class<?>> TESTS = List.of(OperationsTest.class, CardConformanceTest.class,
            CardBf16ConformanceTest.class, CardF16ConformanceTest.class);

    private RunOnCard() {}

    public static void main(String[] args) {
        if (new CudaBackendProvider().availability() instanceof Unavailable(String reason)) {
            System.err.println("no card to run on: " + reason);
            System.exit(2);
        }
        List<String> names = Arrays.asList(args);
        if (names.contains("--ask"))
            return;
        // emulated settings would tell nothing here
        System.setProperty("omni.cuda.cardOnly", "true");
        LauncherDiscoveryRequest request = LauncherDiscoveryRequestBuilder.request().selectors(TESTS.stream()
                .filter(test -> names.isEmpty() || names.contains(test.getSimpleName())).map(test -> selectClass(test))
                .toList()).build();
        SummaryGeneratingListener listener = new SummaryGeneratingListener();
        LauncherFactory.create().execute(request, listener);
        TestExecutionSummary summary = listener.getSummary();
        summary.printFailuresTo(new PrintWriter(System.out), 20);
        System.out.println(summary.getTestsSucceededCount() + " passed, " + summary.getTotalFailureCount() + " failed, "
                + (summary.getTestsAbortedCount() + summary.getTestsSkippedCount()) + " not run");
        System.exit(summary.getTotalFailureCount() == 0 && summary.getTestsSucceededCount() > 0 ? 0 : 1);
    }
}

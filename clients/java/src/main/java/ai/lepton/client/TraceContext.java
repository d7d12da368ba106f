package ai.lepton.client;

import io.opentelemetry.api.trace.Span;
import java.util.function.Supplier;

/** The W3C trace context of the program, where it has OpenTelemetry. */
final class TraceContext {
    private TraceContext() {}

    /** Gives the current {@code traceparent}, or "" when there is none; asks OpenTelemetry if it is on the class path. */
    static Supplier<String> current() {
        try {
            Class.forName("io.opentelemetry.api.trace.Span", false, TraceContext.class.getClassLoader());
        } catch (ClassNotFoundException | LinkageError without) {
            return () -> "";
        }
        return OpenTelemetry::traceparent;
    }

    /** A class of its own: loaded only where the one that it uses is there. */
    private static final class OpenTelemetry {
        static String traceparent() {
            var context = Span.current().getSpanContext();
            if (!context.isValid()) {
                return "";
            }
            return "00-%s-%s-%s"
                    .formatted(context.getTraceId(), context.getSpanId(), context.getTraceFlags().asHex());
        }
    }
}

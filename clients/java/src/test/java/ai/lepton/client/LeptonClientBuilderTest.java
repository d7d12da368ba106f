package ai.lepton.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import ai.lepton.v1.GenerateRequest;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class LeptonClientBuilderTest {
    @ParameterizedTest
    @ValueSource(strings = {"", "localhost", "localhost:", "http://localhost:50051", "a b:1"})
    void whatIsNoAddressIsSaid(String address) {
        assertThrows(IllegalArgumentException.class, () -> LeptonClient.builder(address).build());
    }

    @Test
    void resumeAndDirectExcludeEachOther() {
        LeptonClientBuilder builder = LeptonClient.builder("a:1").resume(true).direct(true);
        assertThrows(IllegalArgumentException.class, builder::build);
    }

    @Test
    void whatCannotBeSentIsSaid() {
        LeptonClientBuilder builder = LeptonClient.builder("a:1").caller("jürgen");
        assertThrows(IllegalArgumentException.class, builder::build);
    }

    @Test
    void optionsBecomeFields() {
        GenerateRequest request = new GenerateOptions()
                .model("m")
                .maxTokens(3)
                .stop("a", "b")
                .temperature(0.5)
                .seed(7)
                .n(2)
                .into(GenerateRequest.newBuilder())
                .build();
        assertEquals("m", request.getModel());
        assertEquals(3, request.getStop().getMaxTokens());
        assertEquals(List.of("a", "b"), request.getStop().getStringsList());
        assertEquals(0.5f, request.getSampling().getTemperature());
        assertEquals(7, request.getSampling().getSeed());
        assertEquals(2, request.getSampling().getN());
    }

    @Test
    void theTraceOfTheProgramIsSent() {
        String traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
        Span span = Span.wrap(SpanContext.create(
                traceId, "00f067aa0ba902b7", TraceFlags.getSampled(), TraceState.getDefault()));
        try (var scope = span.makeCurrent()) {
            assertEquals("00-" + traceId + "-00f067aa0ba902b7-01", TraceContext.current().get());
        }
        assertEquals("", TraceContext.current().get());
    }
}

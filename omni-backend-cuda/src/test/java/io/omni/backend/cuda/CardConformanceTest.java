package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.conformance.BackendConformance;

/** The suite on a card; skipped, with the reason, where there is none. */
class CardConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Setting.F32_CARD.open();
    }
}

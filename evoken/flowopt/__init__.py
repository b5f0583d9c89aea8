"""FlowOpt: inversion and editing through a whole deterministic sampling process as a black box."""

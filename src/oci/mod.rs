//! What the Open Container Initiative's formats say: references, digests, manifests, image configs, the runtime spec, registries. A leaf.

pub mod runtime;

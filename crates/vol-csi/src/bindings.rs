//! The messages and services of `proto/*.proto`.

/// Made by `crates/vol-csi/generate`; not to be edited.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery, rustdoc::all)]
#[rustfmt::skip]
#[path = "generated/csi.rs"]
pub mod csi;

/// How the kubelet is told of a driver. Made by `crates/vol-csi/generate`; not to be edited.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery, rustdoc::all)]
#[rustfmt::skip]
#[path = "generated/registration.rs"]
pub mod registration;

#[cfg(test)]
mod tests {
    #[test]
    fn the_bindings_are_those_of_the_definitions() {
        for (definition, made) in [
            (&include_bytes!("../proto/csi.proto")[..], include_str!("generated/csi.rs")),
            (include_bytes!("../proto/csi.proto"), include_str!("../../../tests/csi/descriptors.py")),
            (&include_bytes!("../proto/registration.proto")[..], include_str!("generated/registration.rs")),
        ] {
            let hash = blake3::hash(definition).to_hex();
            assert!(
                made.lines().next().unwrap_or_default().contains(hash.as_str()),
                "make them anew: cargo run --manifest-path crates/vol-csi/generate/Cargo.toml"
            );
        }
    }
}

//! Writes `src/generated/*.rs` from `proto/*.proto`: `cargo run --manifest-path crates/vol-csi/generate/Cargo.toml`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no directory above")?;
    for (name, package) in [("csi", "csi.v1"), ("registration", "pluginregistration")] {
        generate(root, name, package)?;
    }
    Ok(())
}

fn generate(root: &Path, name: &str, package: &str) -> Result<(), Box<dyn Error>> {
    let proto = root.join(format!("proto/{name}.proto"));
    let out = env::temp_dir().join(format!("vol-csi-generate-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let descriptors = protox::compile([&proto], [root.join("proto")])?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .build_transport(false)
        .btree_map(".")
        .out_dir(&out)
        .compile_fds(descriptors)?;
    let made = out.join(format!("{package}.rs"));
    let hash = blake3::hash(&fs::read(&proto)?).to_hex();
    let text = format!("// From proto/{name}.proto, whose BLAKE3 hash is {hash}.\n{}", fs::read_to_string(&made)?);
    let to = root.join(format!("src/generated/{name}.rs"));
    fs::create_dir_all(root.join("src/generated"))?;
    fs::write(&to, text)?;
    fs::remove_file(&made)?;
    fs::remove_dir(&out)?;
    println!("{} written", to.display());
    Ok(())
}

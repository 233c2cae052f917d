//! Writes `src/generated/*.rs`, and the descriptors for a client in Python, from `proto/*.proto`:
//! `cargo run --manifest-path crates/vol-csi/generate/Cargo.toml`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// The module that the client in Python takes its messages from.
const DESCRIPTORS: &str = "../../tests/csi/descriptors.py";
/// Digits in a line of it.
const LINE: usize = 140;

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
    if name == "csi" {
        describe(root, &proto, &descriptors)?;
    }
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

/// Writes the descriptors of what the definition itself defines, in hexadecimal digits, without its comments.
fn describe(root: &Path, proto: &Path, descriptors: &FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    let mut own = descriptors.clone();
    own.file.retain(|file| file.package() == "csi.v1");
    own.file.iter_mut().for_each(|file| file.source_code_info = None);
    let mut digits = String::new();
    for byte in own.encode_to_vec() {
        write!(digits, "{byte:02x}")?;
    }
    let hash = blake3::hash(&fs::read(proto)?).to_hex();
    let mut text = format!("# From proto/csi.proto, whose BLAKE3 hash is {hash}; made by crates/vol-csi/generate.\n");
    text.push_str("SET = bytes.fromhex(\"\"\"\n");
    for line in digits.as_bytes().chunks(LINE) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("\"\"\")\n");
    let to = root.join(DESCRIPTORS);
    fs::create_dir_all(to.parent().ok_or("no directory above")?)?;
    fs::write(&to, text)?;
    println!("{} written", to.display());
    Ok(())
}

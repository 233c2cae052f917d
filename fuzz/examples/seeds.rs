//! Writes the seeds to `corpus/`; see [`vol_fuzz::seed`].
#![forbid(unsafe_code)]

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, name, bytes) in vol_fuzz::seed::all() {
        std::fs::create_dir_all(corpus.join(target))?;
        std::fs::write(corpus.join(target).join(name), bytes)?;
    }
    Ok(())
}

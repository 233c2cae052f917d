//! Writes `docs/openapi.json` from the server's list of endpoints.

use std::fs;

use volumed::server::openapi;

fn main() -> std::io::Result<()> {
    fs::write(openapi::FILE, openapi::document())
}

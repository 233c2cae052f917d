//! Requests that are made up from the OpenAPI document, right and wrong ones, by schemathesis (<https://schemathesis.io>), which also judges
//! the answers by the document. The server is the real one, over a simulated machine.

#[path = "../examples/sim-server.rs"]
mod sim_server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpListener;
use volumed::server::Limits;

/// Where `cargo xtask test` has put it, or why it could not.
fn program() -> Result<PathBuf, String> {
    if let Ok(reason) = std::env::var("VOLUMED_NO_SCHEMATHESIS") {
        return Err(reason);
    }
    let target = option_env!("CARGO_TARGET_DIR").unwrap_or("target");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(target).join("tools/venv/bin/schemathesis");
    if path.exists() { Ok(path) } else { Err("schemathesis is not installed; cargo xtask test does it".to_owned()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_can_be_made_up_from_the_document_is_answered_otherwise_than_it_says() {
    let program = match program() {
        Ok(program) => program,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Requests that follow what happens are to end soon.
    let limits = Limits { follow: Duration::from_millis(200), ..Limits::default() };
    let server = tokio::spawn(sim_server::serve(listener, limits));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let work = tempfile::tempdir().unwrap();
    let run = move || {
        let mut command = Command::new(program);
        command.args(["--config-file"]).arg(folder.join("schemathesis.toml"));
        command.args(["run", "--seed", "1", &format!("{url}/v1/openapi.json")]);
        // It leaves its notes where it is.
        let output = command.current_dir(work.path()).env("NO_COLOR", "1").output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status, said)
    };
    let (status, said) = tokio::task::spawn_blocking(run).await.unwrap();
    server.abort();
    println!("{said}");
    assert!(status.success(), "schemathesis found what the document does not tell; its report is above");
    assert!(said.contains("Fuzzing") && said.contains("Stateful"), "it has not done all that it was asked for");
}

//! `cargo bench`: the cost of the boundary, by `bench/compare` on the binary just built.

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/compare");
    let quick = std::env::args().any(|argument| argument == "--quick");
    let status = Command::new("python3")
        .arg(script)
        .args(quick.then_some("--quick"))
        .env("STOCKADE_BENCH_BINARY", env!("CARGO_BIN_EXE_stockade"))
        .status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

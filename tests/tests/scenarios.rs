//! The scenarios: every way a socket comes to listen that has fooled another tool, on this kernel.
//!
//! `cargo test -p portwatch-tests --test scenarios -- [--rung RUNG] [FILTER]`, as root. Also runs in a VM,
//! where `PORTWATCH_BIN` and `PORTWATCH_ACTOR` say where the programs are.

mod scenario;

fn main() -> std::process::ExitCode {
    portwatch_tests::harness::suite::run(&scenario::all())
}

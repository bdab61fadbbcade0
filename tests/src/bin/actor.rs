//! The actor as a program: `actor serve TOKEN` and its kin, see `portwatch_tests::actor`.

fn main() -> std::process::ExitCode {
    portwatch_tests::actor::main(std::env::args_os().skip(1).collect())
}

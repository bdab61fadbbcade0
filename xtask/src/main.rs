//! portwatch's chores, run as `cargo xtask …`.

mod bench;
mod ebpf;
mod fuzz;
mod generate;
mod host;
mod results;
mod servers;
mod sigma;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "portwatch's chores")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Rebuild the committed eBPF object, or check it.
    Ebpf(ebpf::Args),
    /// Boot a Debian kernel under QEMU and run the scenario suite there.
    Vm(vm::Args),
    /// Let random programs come and go for minutes: is every listener told, does nothing grow?
    Soak(soak::Args),
    /// Run all the tests; installs what they need.
    Test(test::Args),
    /// Search for bytes that break a parser.
    Fuzz(fuzz::Args),
    /// Write the generated documents, or check them.
    Gen(generate::Args),
    /// Measure costs and speed beside other tools, and write them down.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().chore {
        Chore::Ebpf(args) => ebpf::run(&args),
        Chore::Vm(args) => vm::run(&args),
        Chore::Soak(args) => soak::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Gen(args) => generate::run(&args),
        Chore::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

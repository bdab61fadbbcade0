//! The `portwatch` program; everything it does is in the library, so that tests can reach it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;

use portwatch::cli;
use portwatch::cli::exit::Exit;
use portwatch::text::escape;

fn main() -> ExitCode {
    panic::set_hook(Box::new(report));
    panic::catch_unwind(cli::main).unwrap_or_else(|_| Exit::Software.into())
}

/// One line that can go into a bug report; the backtrace follows where RUST_BACKTRACE asks for it.
fn report(info: &PanicHookInfo<'_>) {
    let message = escape(info.payload_as_str().unwrap_or("no message").as_bytes());
    let place = info
        .location()
        .map_or_else(String::new, |place| format!(" at {place}"));
    let mut stderr = std::io::stderr().lock();
    // Without a standard error there is nobody to tell.
    let _ = writeln!(stderr, "portwatch: bug: {message}{place}; please report it");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = writeln!(stderr, "{backtrace}");
    }
}

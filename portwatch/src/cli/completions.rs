//! `portwatch completions SHELL`.

use std::io::{self, Write};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Args;

/// Prints the completion script for a shell.
///
/// # Errors
/// When the output cannot be written.
pub fn print(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics when its output fails; memory does not.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "portwatch", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn each_shell_gets_a_script_that_knows_the_commands() {
        for &shell in Shell::value_variants() {
            let mut script = Vec::new();
            print(shell, &mut script).expect("memory");
            let script = String::from_utf8(script).expect("text");
            for word in ["portwatch", "doctor", "no-daemon"] {
                assert!(script.contains(word), "{shell} does not know {word}");
            }
        }
    }
}

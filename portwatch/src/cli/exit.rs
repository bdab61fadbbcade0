//! Exit codes, after sysexits.h.

use std::process::ExitCode;

use clap::error::ErrorKind;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A comparison found a difference.
    Different = 1,
    /// The command line or a filter is wrong.
    Usage = 64,
    /// No daemon or sensor to be had.
    Unavailable = 69,
    /// A bug.
    Software = 70,
    /// Reading or writing failed.
    Io = 74,
    /// The caller lacks the privilege.
    NotPermitted = 77,
    /// The configuration is wrong.
    Config = 78,
    /// Interrupted from the keyboard (128 + SIGINT).
    Interrupted = 130,
    /// Ended by SIGTERM (128 + SIGTERM), as a stream that has no end of its own.
    Terminated = 143,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What clap calls an error is a success when help or the version was asked for.
impl From<&clap::Error> for Exit {
    fn from(error: &clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Ok,
            ErrorKind::Io => Self::Io,
            _ => Self::Usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;
    use crate::cli::args::Args;
    use clap::Parser as _;

    fn exit(args: &[&str]) -> Exit {
        let error = Args::try_parse_from([&["portwatch"], args].concat()).expect_err("an exit");
        Exit::from(&error)
    }

    #[test]
    fn help_is_a_success_and_a_wrong_flag_is_not() {
        assert_eq!(exit(&["--help"]), Exit::Ok);
        assert_eq!(exit(&["tail", "-h"]), Exit::Ok);
        assert_eq!(exit(&["--version"]), Exit::Ok);
        assert_eq!(exit(&["--nonsense"]), Exit::Usage);
        assert_eq!(exit(&["tail", "--since", "soon"]), Exit::Usage);
        assert_eq!(exit(&[]), Exit::Usage);
        assert_eq!(Exit::Usage.code(), 64);
    }
}

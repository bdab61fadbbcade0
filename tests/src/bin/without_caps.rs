//! Becomes another program that lacks capabilities, and can never get them back.
//!
//! The harness starts it in portwatch's place (`PORTWATCH_BIN`). `PORTWATCH_TEST_PROGRAM` is the program
//! to become, `PORTWATCH_TEST_DROP_CAPS` the names of the capabilities, comma-separated. On this machine:
//! `PORTWATCH_BIN=target/debug/without_caps PORTWATCH_TEST_PROGRAM=$PWD/target/debug/portwatch
//! PORTWATCH_TEST_DROP_CAPS=CAP_SYS_PTRACE cargo test -p portwatch-tests --test scenarios`.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

fn main() -> ExitCode {
    let Err(error) = become_less();
    eprintln!("without_caps: {error:#}");
    ExitCode::from(70)
}

fn become_less() -> Result<std::convert::Infallible> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let names = variable("PORTWATCH_TEST_DROP_CAPS")?;
    let program = variable("PORTWATCH_TEST_PROGRAM")?;
    let dropped = parse(&names)?;
    clear_ambient_capability_set().context("cannot clear the ambient set")?;
    let mut sets = capabilities(None).context("cannot read the capabilities")?;
    for one in dropped.iter() {
        // Root gets the whole bounding set at exec. A user has nothing to gain there, and may not.
        if rustix::process::geteuid().is_root() && capability_is_in_bounding_set(one)? {
            remove_capability_from_bounding_set(one)
                .with_context(|| format!("cannot take {one:?} out of the bounding set"))?;
        }
    }
    sets.effective.remove(dropped);
    sets.permitted.remove(dropped);
    sets.inheritable.remove(dropped);
    set_capabilities(None, sets).context("cannot drop the capabilities")?;
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).with_context(|| format!("cannot become {program}"))
}

fn parse(names: &str) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        match name.strip_prefix("CAP_").and_then(CapabilitySet::from_name) {
            Some(one) => set |= one,
            None => bail!("there is no capability {name}"),
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::{CapabilitySet, parse};

    #[test]
    fn capabilities_go_by_their_names() {
        let both = parse("CAP_SYS_ADMIN,CAP_BPF").expect("known");
        assert_eq!(both, CapabilitySet::SYS_ADMIN | CapabilitySet::BPF);
        for unknown in ["SYS_ADMIN", "CAP_", "CAP_sys_admin"] {
            assert!(parse(unknown).is_err(), "{unknown}");
        }
    }
}

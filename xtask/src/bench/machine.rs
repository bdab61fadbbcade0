//! The machine, as a table of numbers needs it: nothing that names the host or where things are on it.

use std::fs;

use serde::{Deserialize, Serialize};

/// What numbers depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) cpu: String,
    /// Processors online.
    pub(crate) processors: usize,
    /// Memory, in MiB.
    pub(crate) memory_mib: u64,
    /// Whether a hypervisor is below.
    pub(crate) virtual_machine: bool,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Name of the distribution.
    pub(crate) distribution: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let uname = rustix::system::uname();
        let memory = value(&read("/proc/meminfo"), "MemTotal", ':');
        let kib = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let flags = value(&cpuinfo, "flags", ':').unwrap_or_default();
        Self {
            cpu: value(&cpuinfo, "model name", ':').unwrap_or_else(|| "unknown".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib.unwrap_or(0) / 1024,
            virtual_machine: flags.split(' ').any(|flag| flag == "hypervisor"),
            kernel: uname.release().to_string_lossy().into_owned(),
            distribution: value(&read("/etc/os-release"), "PRETTY_NAME", '=')
                .unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    /// In one sentence.
    pub(crate) fn sentence(&self) -> String {
        let kind = if self.virtual_machine {
            "a virtual machine"
        } else {
            "a machine"
        };
        format!(
            "{} processors of {kind} ({}), {} MiB, Linux {}, {}",
            self.processors, self.cpu, self.memory_mib, self.kernel, self.distribution
        )
    }
}

/// Load average of the last minute.
pub(crate) fn load() -> f64 {
    let text = read("/proc/loadavg");
    let first = text.split(' ').next().and_then(|first| first.parse().ok());
    first.unwrap_or(0.0)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of `name`, without blanks and quotes. Pure.
fn value(text: &str, name: &str, separator: char) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(separator));
    let found = values.into_iter().find(|(key, _)| key.trim() == name);
    found.map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "model\t\t: 167\nmodel name\t: Some CPU\nPRETTY_NAME=\"Debian 12\"\n";
        assert_eq!(value(text, "model name", ':').as_deref(), Some("Some CPU"));
        assert_eq!(
            value(text, "PRETTY_NAME", '=').as_deref(),
            Some("Debian 12")
        );
        assert_eq!(value(text, "name", ':'), None);
    }

    #[test]
    fn no_host_name_is_told() {
        let told = serde_json::to_string(&Machine::here()).expect("JSON");
        assert!(
            !told.contains("nodename") && told.contains("kernel"),
            "{told}"
        );
    }
}

//! What the daemon would stumble over with a configuration that says nothing wrong: files that are not there, users and programs that
//! do not exist, a response that can reach nobody. Reads files; opens none for writing, and asks nobody.

use super::carriers::carrier;
use super::files::Files;
use super::host::host;
use super::transports::transport;
use crate::config::sinks::Kind;
use crate::config::{Channel, Config, Sink};
use crate::event::Host;
use crate::storm::response::Terms;

/// A sentence for each; the daemon of a privileged caller would find the same.
#[must_use]
pub fn stumbles(config: &Config) -> Vec<String> {
    let host = host();
    let channels = config.channels.iter();
    let sinks = config.sinks.iter();
    channels
        .filter_map(|channel| of_channel(channel, &host))
        .chain(sinks.filter_map(|sink| of_sink(sink, &host)))
        .chain(of_response(&config.response))
        .collect()
}

fn of_channel(channel: &Channel, host: &Host) -> Option<String> {
    let why = carrier(channel, &host.name).err()?;
    Some(format!("the channel `{}`: {why}", channel.name))
}

fn of_sink(sink: &Sink, host: &Host) -> Option<String> {
    let why = match &sink.kind {
        Kind::File(file) => {
            let folder = file.path.parent()?;
            match std::fs::metadata(folder) {
                Ok(found) if found.is_dir() => return None,
                Ok(_) => format!("{} is no folder", folder.display()),
                Err(error) => format!("the folder {}: {error}", folder.display()),
            }
        }
        _ => transport(sink, host, &mut Files::default()).err()?,
    };
    Some(format!("the sink `{}`: {why}", sink.name))
}

/// Why nobody can be shut out, whatever happens.
fn of_response(terms: &Terms) -> Option<String> {
    let is_on = terms.scans || !terms.storms.is_empty();
    let has_set = terms.ipv4_set.is_some() || terms.ipv6_set.is_some();
    (is_on && !has_set).then(|| {
        "[response] answers nothing without a set of nftables: name one with `ipv4_set` or `ipv6_set`".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::stumbles;
    use crate::config::{Config, apply_text};

    fn told(text: &str) -> Vec<String> {
        let mut config = Config::default();
        assert_eq!(apply_text(&mut config, text), [""; 0]);
        stumbles(&config)
    }

    #[test]
    fn what_is_missing_on_this_host_is_told() {
        assert_eq!(told(""), [""; 0]);
        let dir = tempfile::tempdir().expect("dir");
        let file = |folder: &str| {
            let path = dir.path().join(folder).join("events.jsonl");
            let path = path.display();
            told(&format!(
                "[[sink]]\nname = \"log\"\ntype = \"file\"\npath = \"{path}\"\n"
            ))
        };
        assert_eq!(file(""), [""; 0]);
        assert!(!dir.path().join("events.jsonl").exists(), "nothing is made");
        let missing = file("missing");
        assert!(
            missing[0].starts_with("the sink `log`: the folder "),
            "{missing:?}"
        );
        let program = told("[exec]\ncommand = [\"/nowhere/hook\"]\n");
        assert!(
            program[0].starts_with("the channel `exec`: /nowhere/hook "),
            "{program:?}"
        );
    }

    #[test]
    fn a_response_without_a_set_is_told() {
        let told_of = told("[response]\non = [\"port-scan\"]\n");
        assert!(told_of[0].contains("ipv4_set"), "{told_of:?}");
        let with = told("[response]\non = [\"port-scan\"]\nipv4_set = \"inet filter bad4\"\n");
        assert_eq!(with, [""; 0]);
    }
}

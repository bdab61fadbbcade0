//! TOML text onto a configuration, with every mistake told at once. Pure.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Config;
use super::diagnostic::Diagnostic;
use super::keys::{Key, keys};
use super::{channels, maintenance, rules, sinks};
use crate::text::escape;

/// What is wrong, and where: byte offset and sentence.
pub(super) type Mistakes = Vec<(usize, String)>;

/// Lays what `input` says over `config`. Keys that are wrong leave their value as it was.
pub(super) fn apply(config: &mut Config, file: &Path, input: &str) -> Vec<Diagnostic> {
    let (document, syntax) = DeTable::parse_recoverable(input);
    let mut mistakes: Mistakes = syntax
        .into_iter()
        .map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (at, escape(error.message().as_bytes()))
        })
        .collect();
    // What a parser makes of broken text would only be confusing.
    if mistakes.is_empty() {
        for (name, value) in document.get_ref() {
            let (section, at) = (name.get_ref().as_ref(), name.span().start);
            match value.get_ref() {
                DeValue::Table(table) if is_section(section) => {
                    apply_section(config, section, table, &mut mistakes);
                }
                _ if rules::action(section).is_some()
                    || channels::is_list(section)
                    || section == maintenance::LIST
                    || section == sinks::LIST => {}
                _ => mistakes.push((at, unknown_at_top(section))),
            }
        }
        rules::read(
            file,
            input,
            document.get_ref(),
            &mut config.rules,
            &mut mistakes,
        );
        channels::read(document.get_ref(), &mut config.channels, &mut mistakes);
        maintenance::read(document.get_ref(), &mut config.maintenance, &mut mistakes);
        sinks::read(document.get_ref(), &mut config.sinks, &mut mistakes);
    }
    mistakes.sort();
    mistakes
        .into_iter()
        .map(|(at, message)| Diagnostic::at(file, input, at, message))
        .collect()
}

fn apply_section(config: &mut Config, section: &str, table: &DeTable<'_>, mistakes: &mut Mistakes) {
    for (name, value) in table {
        match keys_of(section).find(|key| key.name == name.get_ref().as_ref()) {
            Some(key) => {
                if let Err(expected) = (key.apply)(config, value.get_ref()) {
                    let message = format!("{section}.{}: {expected}", key.name);
                    mistakes.push((value.span().start, message));
                }
            }
            None => mistakes.push((name.span().start, unknown_key(section, name.get_ref()))),
        }
    }
}

fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    keys().filter(move |key| key.section == section)
}

fn is_section(name: &str) -> bool {
    keys_of(name).next().is_some()
}

fn unknown_key(section: &str, name: &str) -> String {
    let shown = escape(name.as_bytes());
    let nearest = nearest(name, keys_of(section).map(|key| key.name));
    if let Some(nearest) = nearest {
        return format!("unknown key `{shown}` in [{section}]; did you mean `{nearest}`?");
    }
    if let Some(key) = keys().find(|key| key.name == name) {
        return format!("`{shown}` belongs to [{}], not to [{section}]", key.section);
    }
    let known: Vec<&str> = keys_of(section).map(|key| key.name).collect();
    format!(
        "unknown key `{shown}` in [{section}]; it has {}",
        known.join(", ")
    )
}

fn unknown_at_top(name: &str) -> String {
    let shown = escape(name.as_bytes());
    if is_section(name) {
        return format!("`{shown}` is a section: write [{shown}] and its keys below");
    }
    if let Some(key) = keys().find(|key| key.name == name) {
        return format!("`{shown}` belongs to the section [{}]", key.section);
    }
    let mut sections: Vec<&str> = keys().map(|key| key.section).collect();
    sections.dedup();
    sections.extend(rules::LISTS.map(|(list, _)| list));
    sections.extend(channels::LISTS);
    sections.push(maintenance::LIST);
    sections.push(sinks::LIST);
    match nearest(name, sections.iter().copied()) {
        Some(nearest)
            if rules::action(nearest).is_some()
                || [maintenance::LIST, sinks::LIST].contains(&nearest) =>
        {
            format!("unknown section `{shown}`; did you mean [[{nearest}]]?")
        }
        Some(nearest) => format!("unknown section `{shown}`; did you mean [{nearest}]?"),
        None => format!(
            "unknown section `{shown}`; there are {}",
            sections.join(", ")
        ),
    }
}

/// The known name that a typing mistake could have been meant for.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any key could be meant: not worth the comparison.
    if name.len() > 64 {
        return None;
    }
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters, row by row.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::LogLevel;

    /// The file that is shipped as documentation.
    const EXAMPLE: &str = include_str!("../../../etc/portwatch.toml");

    fn parsed(input: &str) -> (Config, Vec<String>) {
        let mut config = Config::default();
        let mistakes = apply(&mut config, Path::new("f.toml"), input);
        (config, mistakes.iter().map(ToString::to_string).collect())
    }

    fn one_mistake(input: &str) -> String {
        let (config, mistakes) = parsed(input);
        assert_eq!(config, Config::default());
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        mistakes.concat()
    }

    #[test]
    fn values_are_taken() {
        let (config, mistakes) = parsed(
            "[ring]\ncritical_kib = 0x4000\n[enrich]\nhash = false\n[log]\nkernel = \"debug\"\n",
        );
        assert_eq!(mistakes, [""; 0]);
        assert_eq!(config.ring.critical_kib, 16384);
        assert!(!config.enrich.hash);
        assert_eq!(config.log.kernel, LogLevel::Debug);
        assert_eq!(config.inventory, Config::default().inventory);
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        assert_eq!(
            one_mistake("[ring]\n  critical_kb = 64\n"),
            "f.toml:2:3: unknown key `critical_kb` in [ring]; did you mean `critical_kib`?\n      critical_kb = 64\n      ^"
        );
        assert!(one_mistake("[rings]\n").contains("did you mean [ring]?"));
        assert!(one_mistake("[ring]\nhash = true").contains("belongs to [enrich]"));
        assert!(one_mistake("wait_ms = 1").contains("belongs to the section [enrich]"));
        assert!(one_mistake("ring = 1").contains("write [ring]"));
        assert!(one_mistake("[zebra]").contains("there are ring, inventory,"));
        assert!(one_mistake("[log]\n\"\\u001b\" = 1").contains(r"`\x1b`"));
    }

    #[test]
    fn wrong_values_say_what_is_expected() {
        for (input, expected) in [
            (
                "[ring]\nbulk_kib = 100",
                "power of two from 64 to 1048576, such as 128",
            ),
            ("[ring]\nbulk_kib = 32", "power of two from 64"),
            ("[ring]\nbulk_kib = -64", "power of two from 64"),
            ("[inventory]\nreconcile_seconds = 9", "from 10 to 3600"),
            ("[inventory]\nfast_seconds = 1.5", "from 1 to 10"),
            ("[enrich]\nhash = \"yes\"", "expected true or false"),
            ("[enrich]\nwait_ms = 99999999999999999999", "from 0 to 1000"),
            ("[control]\ngroup = \"a b\"", "name of a group"),
            ("[control]\nmax_clients = 0", "from 1 to 1024"),
            ("[log]\nkernel = \"loud\"", "\"off\", \"error\""),
        ] {
            let mistake = one_mistake(input);
            assert!(mistake.contains(expected), "{mistake}");
            assert!(mistake.starts_with("f.toml:2:"), "{mistake}");
        }
    }

    #[test]
    fn every_mistake_is_told_in_order() {
        let (_, mistakes) = parsed("[ring]\nx = 1\nbulk_kib = 3\n[log]\nkernel = 1\n[a]\n");
        let places: Vec<&str> = mistakes.iter().map(|text| &text[..11]).collect();
        assert_eq!(
            places,
            ["f.toml:2:1:", "f.toml:3:12", "f.toml:5:10", "f.toml:6:2:"]
        );
        let (_, mistakes) = parsed("[ring\nbulk_kib = = 3\n[log]\nkernel = \n");
        assert!(mistakes.len() >= 2, "{mistakes:?}");
    }

    #[test]
    fn the_shipped_example_documents_the_defaults() {
        assert_eq!(parsed(EXAMPLE), (Config::default(), vec![]));
        // `#key = value` is a key, `# text` is prose.
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(parsed(&uncommented), (Config::default(), vec![]));
        // Every key is there, and with its default value and no other: a changed default would show.
        let document = DeTable::parse(&uncommented).expect("TOML");
        for key in keys() {
            let section = document.get_ref().get(key.section).expect(key.section);
            let value = section.get_ref().get(key.name).expect(key.name);
            let mut config = Config::default();
            (key.apply)(&mut config, value.get_ref()).expect(key.name);
            assert_eq!(config, Config::default(), "{}", key.name);
        }
    }

    /// What people copy out of the documentation works.
    #[test]
    fn every_example_of_the_documentation_is_right() {
        let pages = [
            include_str!("../../../docs/alerts.md"),
            include_str!("../../../docs/metrics.md"),
            include_str!("../../../docs/migrating.md"),
            include_str!("../../../docs/policy.md"),
            include_str!("../../../docs/siem.md"),
            include_str!("../../../docs/sinks.md"),
            include_str!("../../../docs/sinks-network.md"),
            include_str!("../../../docs/storms.md"),
        ];
        let examples = pages
            .iter()
            .flat_map(|page| page.split("```toml\n").skip(1))
            .filter_map(|rest| rest.split_once("```"));
        let mut count = 0;
        for (example, _) in examples {
            let (_, mistakes) = parsed(example);
            assert_eq!(mistakes, [""; 0], "{example}");
            count += 1;
        }
        assert!(count >= 10, "{count} examples");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(input in "(\\[|\\]|=|\"|#|\n|ring|bulk_kib|log|[ -~]|\\PC){0,60}") {
            for mistake in parsed(&input).1 {
                prop_assert!(!mistake.replace('\n', "").contains(char::is_control));
            }
        }
    }
}

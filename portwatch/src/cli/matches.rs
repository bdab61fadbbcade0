//! `portwatch match`: which listeners of now an expression or a configured rule matches.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args;
use super::exit::Exit;
use super::failure::{Failure, note};
use super::style::Terminal;
use super::{ls, print, table};
use crate::config::{self, Paths};
use crate::daemon::host_network_namespace;
use crate::event::Event;
use crate::filter::Filter;
use crate::policy::{Facts, Rule};

pub(super) fn run(args: &args::Match, paths: &Paths) -> Result<Exit, Failure> {
    let matches = matcher(args, paths)?;
    let mut events = ls::all(paths)?;
    events.retain(|event| matches(event));
    if events.is_empty() {
        note("no listener of this moment matches");
    }
    match args.output.format() {
        Some(format) => print(&ls::lines(&events, format)),
        None => {
            let zone = TimeZone::system();
            let table = table::table(&events, Terminal::stdout(), Timestamp::now(), &zone);
            print(table.as_bytes())
        }
    }
}

type Matcher = Box<dyn Fn(&Event) -> bool>;

fn matcher(args: &args::Match, paths: &Paths) -> Result<Matcher, Failure> {
    let Some(name) = &args.rule else {
        let filter = Filter::parse_args(&args.filter)?;
        return Ok(Box::new(move |event| filter.matches(event)));
    };
    let rule = rule(config::load(paths)?.config.rules, name)?;
    if rule.is_elsewhere() {
        return Err(Failure::new(
            Exit::Usage,
            format_args!(
                "the rule `{name}` is about a service of another host, and so about no listener of this one"
            ),
        ));
    }
    let netns = host_network_namespace();
    Ok(Box::new(move |event| {
        Facts::of(event, netns).is_some_and(|facts| rule.when.matches(&facts))
    }))
}

/// The rule of this name; the names that there are, where there is none.
pub(super) fn rule(rules: Vec<Rule>, name: &str) -> Result<Rule, Failure> {
    let names: Vec<String> = rules
        .iter()
        .map(|rule| format!("`{}`", rule.name))
        .collect();
    let found = rules.into_iter().find(|rule| &*rule.name == name);
    found.ok_or_else(|| {
        let known = match names.as_slice() {
            [] => "the configuration has no rule".to_owned(),
            names => format!("the rules are {}", names.join(", ")),
        };
        Failure::new(
            Exit::Usage,
            format_args!("there is no rule `{name}`: {known}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::rule;

    #[test]
    fn an_unknown_rule_is_answered_with_the_known_ones() {
        let failure = rule(Vec::new(), "web").expect_err("none");
        assert_eq!(failure.code(), 64);
    }
}

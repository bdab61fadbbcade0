//! The definition is sound, and its examples are true.

use std::num::NonZeroU64;

use clap::{CommandFactory as _, ValueEnum as _};

use super::*;

fn parse(args: &[&str]) -> Args {
    Args::try_parse_from([&["portwatch"], args].concat()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn every_command_has_an_example_in_its_help() {
    for command in Args::command().get_subcommands_mut() {
        let help = command.render_long_help().to_string();
        let example = format!("portwatch {}", command.get_name());
        assert!(
            help.contains("Example") && help.contains(&example),
            "{help}"
        );
    }
}

#[test]
fn every_example_parses() {
    let mut root = Args::command();
    let mut helps = vec![root.render_long_help()];
    helps.extend(
        root.get_subcommands_mut()
            .map(clap::Command::render_long_help),
    );
    let mut seen = 0;
    for help in helps {
        for line in help.to_string().lines() {
            let line = line.trim().trim_start_matches("sudo ");
            if !line.starts_with("portwatch ") {
                continue;
            }
            let plain = line.split(" > ").next().unwrap_or(line);
            let plain = plain.split(" | ").next().unwrap_or(plain);
            let plain = plain.split("   ").next().unwrap_or(plain);
            let words = plain.split('\'').enumerate().flat_map(|(index, part)| {
                if index % 2 == 1 {
                    vec![part.to_owned()]
                } else {
                    part.split_whitespace().map(str::to_owned).collect()
                }
            });
            let args = Args::try_parse_from(words).unwrap_or_else(|e| panic!("{line}\n{e}"));
            match args.command {
                Command::Tail(tail) => drop(tail.filter().expect(line)),
                Command::Ls(ls) => drop(ls.filter().expect(line)),
                _ => {}
            }
            seen += 1;
        }
    }
    assert!(seen >= 16, "only {seen} examples found");
}

#[test]
fn a_filter_is_all_the_words() {
    let args = parse(&[
        "tail", "tcp", "-o", "json", "port:80", "--count", "3", "--states",
    ]);
    let Command::Tail(tail) = args.command else {
        panic!("tail");
    };
    let filter = tail.filter().expect("a filter").to_string();
    assert_eq!(filter, "proto == tcp and port == 80");
    assert_eq!((tail.output, tail.states), (Stream::Json, true));
    assert_eq!(tail.count, NonZeroU64::new(3));
}

#[test]
fn paths_go_before_and_after_the_command() {
    for args in [["-c", "/x", "run"], ["run", "-c", "/x"]] {
        assert_eq!(parse(&args).paths.config, Some("/x".into()));
    }
    let args = parse(&["status", "--runtime-dir", "/tmp/r"]);
    assert_eq!(args.paths.runtime_dir, PathBuf::from("/tmp/r"));
}

#[test]
fn every_rung_is_a_mechanism_of_the_same_name() {
    for rung in Rung::value_variants() {
        let name = rung.to_possible_value().expect("shown");
        assert_eq!(name.get_name(), rung.mechanism().as_str());
    }
    let Command::Run(run) = parse(&["run", "--rung", "tp_btf", "--kernel-log", "debug"]).command
    else {
        panic!("run");
    };
    assert_eq!(run.probing.rung, Some(Rung::TpBtf));
    assert_eq!(run.probing.kernel_log, Some(KernelLog::Debug));
}

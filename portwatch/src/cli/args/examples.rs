//! What the long help of each command ends with.

pub(super) const EXIT_STATUS: &str = "\
Exit status:
  0 done, 1 a difference (baseline check, verify), 64 usage, 69 no daemon or sensor to be had, 70 bug, 74 I/O,
  77 not permitted, 78 configuration (these as in sysexits.h), 130 interrupted, 143 ended by SIGTERM

Examples:
  portwatch tail                      watch listeners open and close, as root with no set-up
  portwatch ls all-interfaces         what can everybody reach?
  portwatch tail -o json | jq .       the same events for programs";

pub(super) const FILTER_HELP: &str = "\
Filters:
  tcp port:8080 user:www-data         terms side by side must all hold
  udp or port:80,443                  also: and, not, &&, ||, !, ( )
  'port in 1..1023 and not exe == \"/usr/sbin/sshd\"'
  'address in 10.0.0.0/8' 'exe =~ \"/tmp/*\"' 'command contains nc'
  A word alone is a protocol, family, event type, state or exposure. Fields are named as in
  the JSON (socket.port) or for short (port); `*` in =~ stands for any run of characters.
  A field that an event does not have never matches, nor does its negation.";

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  portwatch run
  portwatch run -c ./portwatch.toml --state-dir /tmp/state --runtime-dir /tmp/run";

pub(super) const TAIL_EXAMPLES: &str = "\
Examples:
  portwatch tail
  portwatch tail tcp not user:root
  portwatch tail --states port:5432
  portwatch tail --since 10m -o json listener.opened
  portwatch tail -o ecs 'severity >= notice'
  portwatch tail --count 1 'port == 8080'";

pub(super) const LS_EXAMPLES: &str = "\
Examples:
  portwatch ls
  portwatch ls tcp all-interfaces
  portwatch ls -o json 'port in 1..1023 and not user == root'";

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  portwatch status
  portwatch status -o json";

pub(super) const STATS_EXAMPLES: &str = "\
Examples:
  portwatch stats                              TCP sockets of this moment, by state, listener, process and peer
  portwatch stats -o json | jq .states         as `ss -tan` counts them
  portwatch stats -o json | jq '.listeners[] | select(.half_open > 100)'";
pub(super) const STORMS_EXAMPLES: &str = "\
Examples:
  portwatch storms
  portwatch storms -o json | jq 'select(.type != \"storm.ended\") | .storm'";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo portwatch doctor
  portwatch doctor -o json";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  portwatch check
  portwatch check ./portwatch.toml";

pub(super) const BASELINE_EXAMPLES: &str = "\
Examples:
  portwatch baseline check            what differs from what was approved? 1 when something does
  portwatch baseline generate         all of it is right
  portwatch baseline accept 019aab3c-... --expires 7d --reason 'load test'
  portwatch baseline accept 'tcp port:8000..8010 exe:/opt/build/*'
  portwatch baseline clear";

pub(super) const RELOAD_EXAMPLES: &str = "\
Example:
  portwatch reload";

pub(super) const MATCH_EXAMPLES: &str = "\
Examples:
  portwatch match 'proto == tcp and port in 1..1023'
  portwatch match --rule web";

pub(super) const POLICY_EXAMPLES: &str = "\
Example:
  portwatch policy test --since 30d";

pub(super) const ALERT_EXAMPLES: &str = "\
Examples:
  portwatch alert test
  portwatch alert test email";

pub(super) const HISTORY_EXAMPLES: &str = "\
Examples:
  portwatch history --since 2d
  portwatch history --last 20 'type:listener.*' port:4444
  portwatch history -o json --since 1h 'severity >= warning'";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  portwatch explain 4444
  portwatch explain 53/udp";

pub(super) const VERIFY_EXAMPLES: &str = "\
Examples:
  portwatch verify /var/log/portwatch/events.jsonl*
  portwatch verify --from 1042 /var/log/portwatch/events.jsonl";

pub(super) const SCHEMA_EXAMPLES: &str = "\
Example:
  portwatch schema > portwatch.event-1.json";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  portwatch completions bash > /usr/share/bash-completion/completions/portwatch
  portwatch completions zsh > /usr/share/zsh/site-functions/_portwatch";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  portwatch man | man -l -
  portwatch man tail | man -l -
  portwatch man --dir /usr/share/man/man1";

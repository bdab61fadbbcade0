//! One rule: what it looks for, and what it says of what it finds.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::facts::Facts;
use super::patterns::{Pattern, Patterns};
use super::ports::Ports;
use crate::check::Check;
use crate::event::words::Word;
use crate::event::{Exposure, PolicyState, Protocol, Severity};
use crate::filter::{Filter, Network};

/// What a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It may listen.
    Allow,
    /// It may not.
    Deny,
    /// It may listen, and nobody wants to hear of it.
    Ignore,
    /// It must listen.
    Expect,
}

impl Action {
    /// How a listener is judged that it decided on.
    #[must_use]
    pub const fn state(self) -> PolicyState {
        match self {
            Self::Allow | Self::Ignore => PolicyState::Allowed,
            Self::Deny => PolicyState::Denied,
            Self::Expect => PolicyState::Expected,
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What decisions call it.
    pub name: Arc<str>,
    /// What it decides.
    pub action: Action,
    /// How much it matters, in place of what it would.
    pub severity: Option<Severity>,
    /// What it decides on.
    pub when: Selector,
    /// [`Action::Expect`]: how long nothing may listen before it is told.
    pub grace: Duration,
    /// [`Action::Expect`]: how it is asked whether it answers.
    pub check: Option<Check>,
    /// Why there is such a rule; for people.
    pub reason: Option<String>,
}

impl Rule {
    /// Is it about a service of another host, and so about no listener of this one?
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.check
            .as_ref()
            .is_some_and(|check| check.host.is_some())
    }
}

/// How long what is expected may be gone, where its rule does not say: a service that restarts is back by then.
pub const GRACE: Duration = Duration::from_secs(10);

/// Conditions; all that are there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Protocols.
    pub protocol: Option<WordSet<Protocol>>,
    /// Local ports.
    pub port: Option<Ports>,
    /// Who can reach it.
    pub exposure: Option<WordSet<Exposure>>,
    /// Whose network namespace it is.
    pub netns: Option<Namespace>,
    /// Local addresses, or networks that they lie in.
    pub address: Option<Vec<Network>>,
    /// Paths of unix sockets; abstract ones begin with `@`.
    pub path: Option<Patterns>,
    /// Executables.
    pub exe: Option<Patterns>,
    /// Their hashes: lower-case hexadecimal.
    pub sha256: Option<Vec<String>>,
    /// Packages that own the executable.
    pub package: Option<Patterns>,
    /// Users.
    pub user: Option<Vec<User>>,
    /// systemd units.
    pub unit: Option<Patterns>,
    /// Containers by id, or by `runtime:id`.
    pub container: Option<Patterns>,
    /// Names or executables of parents, at any distance.
    pub parent: Option<Patterns>,
    /// Anything else, in the filter language.
    pub expression: Option<Filter>,
}

/// Whose network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// The host's.
    Host,
    /// Any but the host's.
    Other,
}

/// A user by name, or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// The name may be a glob.
    Name(Pattern),
    /// The number.
    Id(u32),
}

/// A set of words of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordSet<W> {
    bits: u32,
    words: PhantomData<W>,
}

impl<W: Word> WordSet<W> {
    /// These words.
    #[must_use]
    pub fn of(words: impl IntoIterator<Item = W>) -> Self {
        Self {
            bits: words.into_iter().fold(0, |bits, word| bits | bit(word)),
            words: PhantomData,
        }
    }

    pub(super) const fn bits(self) -> u32 {
        self.bits
    }

    /// Is this one of them?
    #[must_use]
    pub fn contains(self, word: W) -> bool {
        self.bits & bit(word) != 0
    }
}

/// No kind has more than 32 words; a test holds them to it.
pub(super) fn bit(word: impl Word) -> u32 {
    1_u32.checked_shl(word.place().into()).unwrap_or(0)
}

impl Selector {
    /// Does every condition certainly hold? Cheap ones first: most rules are about another port.
    #[must_use]
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        let process = facts.process;
        holds(
            self.protocol.as_ref(),
            Some(facts.protocol),
            |set, protocol| set.contains(protocol),
        ) && holds(self.port.as_ref(), facts.port, Ports::contains)
            && holds(self.exposure.as_ref(), facts.exposure, |set, exposure| {
                set.contains(exposure)
            })
            && holds(
                self.netns.as_ref(),
                facts.is_host_namespace,
                |wanted, is_host| (*wanted == Namespace::Host) == is_host,
            )
            && holds(self.address.as_ref(), facts.address, |networks, address| {
                networks.iter().any(|network| network.contains(address))
            })
            && self
                .path
                .as_ref()
                .is_none_or(|paths| facts.has_path(|path| paths.matches(path)))
            && holds(self.exe.as_ref(), facts.exe, Patterns::matches)
            && holds(
                self.sha256.as_ref(),
                process.and_then(|process| process.sha256.as_ref()),
                |known, hash| known.contains(hash),
            )
            && holds(
                self.package.as_ref(),
                process.and_then(|process| process.package.as_deref()),
                Patterns::matches,
            )
            && self
                .user
                .as_ref()
                .is_none_or(|users| users.iter().any(|user| user.is(facts)))
            && holds(
                self.unit.as_ref(),
                process.and_then(|process| process.unit.as_deref()),
                Patterns::matches,
            )
            && self
                .container
                .as_ref()
                .is_none_or(|wanted| is_in_container(wanted, facts))
            && self
                .parent
                .as_ref()
                .is_none_or(|wanted| has_parent(wanted, facts))
            && self
                .expression
                .as_ref()
                .is_none_or(|filter| filter.matches(facts.event))
    }

    /// No condition at all: it would match everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A condition that is not there holds; one on what is not known does not.
fn holds<C, V>(condition: Option<&C>, value: Option<V>, test: impl Fn(&C, V) -> bool) -> bool {
    condition.is_none_or(|condition| value.is_some_and(|value| test(condition, value)))
}

impl User {
    fn is(&self, facts: &Facts<'_>) -> bool {
        let Some(process) = facts.process else {
            return false;
        };
        match self {
            Self::Name(pattern) => process
                .user
                .as_deref()
                .is_some_and(|name| pattern.matches(name)),
            Self::Id(id) => process.uid == Some(*id),
        }
    }
}

fn is_in_container(wanted: &Patterns, facts: &Facts<'_>) -> bool {
    let container = facts.process.and_then(|process| process.container.as_ref());
    container.is_some_and(|container| {
        let runtime = container.runtime.as_deref();
        wanted.matches(&container.id)
            || runtime.is_some_and(|runtime| wanted.matches(&format!("{runtime}:{}", container.id)))
    })
}

fn has_parent(wanted: &Patterns, facts: &Facts<'_>) -> bool {
    let ancestors = facts.process.map_or(&[][..], |process| &process.ancestors);
    ancestors.iter().any(|parent| {
        wanted.matches(&parent.name) || parent.exe.as_deref().is_some_and(|exe| wanted.matches(exe))
    })
}

//! Questions to BTF: where a member lies, what a function takes, whether a type exists.

use super::{Btf, Kind, Record};
use crate::text::escape;

/// Modifiers (`const`, `typedef` …) or pointers that are followed before giving up.
const MAX_CHAIN: usize = 32;
/// Anonymous structs and unions within each other.
const MAX_NESTING: usize = 16;
/// Members looked at for one answer; `task_struct` has 300.
const MAX_VISITS: usize = 100_000;
/// Parameters of a function; the kernel's own limit for tracing is 12.
const MAX_PARAMS: usize = 32;
/// Bytes of a type's name in a text.
const MAX_NAME: usize = 128;

/// Where a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bits from the start of the outermost structure.
    pub bit_offset: u32,
    /// Bits it is wide, for a bit-field only.
    pub bit_size: Option<u8>,
}

/// What a function takes and returns, as C type texts: `struct sock *`, `int`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prototype {
    /// Types of the parameters.
    pub params: Vec<String>,
    /// Type of what it returns; `void` for nothing.
    pub returns: String,
}

impl Btf {
    /// Bits from the start of the struct or union `type_name` to the member at `path`
    /// (`"ns.inum"`; anonymous structs and unions in between are looked through).
    #[must_use]
    pub fn member_bit_offset(&self, type_name: &str, path: &str) -> Option<u32> {
        self.member(type_name, path).map(|member| member.bit_offset)
    }

    /// Like [`Self::member_bit_offset`], with the width of a bit-field.
    #[must_use]
    pub fn member(&self, type_name: &str, path: &str) -> Option<Member> {
        let mut visits = MAX_VISITS;
        // A name can stand for several types (a struct of some driver as well); the one that has
        // the member is meant.
        self.named(type_name)
            .filter(|(_, record)| record.kind.is_aggregate())
            .find_map(|(_, record)| self.follow(record, path, &mut visits))
    }

    /// The prototype of a function that BTF knows; BTF leaves out functions that were inlined
    /// everywhere, and those whose compiled form does not follow the source's prototype.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Prototype> {
        self.named(name)
            .filter(|(_, record)| record.kind == Kind::FUNC)
            .find_map(|(_, record)| self.prototype(record.target))
    }

    /// The arguments of a tracepoint, as `tp_btf` programs get them (`typedef btf_trace_NAME`).
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<Prototype> {
        let typedef = format!("btf_trace_{name}");
        self.named(&typedef)
            .filter(|(_, record)| record.kind == Kind::TYPEDEF)
            .find_map(|(_, record)| {
                let pointer = self.record(record.target)?;
                let mut prototype = (pointer.kind == Kind::PTR)
                    .then(|| self.prototype(pointer.target))
                    .flatten()?;
                // The first one is the tracepoint's own data, which programs never see.
                if !prototype.params.is_empty() {
                    prototype.params.remove(0);
                }
                Some(prototype)
            })
    }

    /// Is there a struct, union, enum or typedef of this name?
    #[must_use]
    pub fn has_type(&self, name: &str) -> bool {
        self.named(name)
            .any(|(_, record)| record.kind != Kind::FUNC)
    }

    fn follow(&self, mut within: Record, path: &str, visits: &mut usize) -> Option<Member> {
        let mut base = 0u32;
        let mut segments = path.split('.').peekable();
        while let Some(segment) = segments.next() {
            let (found, type_id) = self.find_member(&within, segment, visits, MAX_NESTING)?;
            let bit_offset = base.checked_add(found.bit_offset)?;
            if segments.peek().is_none() {
                return Some(Member {
                    bit_offset,
                    ..found
                });
            }
            base = bit_offset;
            within = self.resolve(type_id)?;
        }
        None
    }

    /// A member by name, also inside anonymous members, with the id of its type.
    fn find_member(
        &self,
        within: &Record,
        name: &str,
        visits: &mut usize,
        nesting: usize,
    ) -> Option<(Member, u32)> {
        if !within.kind.is_aggregate() {
            return None;
        }
        for index in 0..within.members {
            *visits = visits.checked_sub(1)?;
            let member_name = self.string(self.trailing(within, index * 3)?);
            if member_name == name.as_bytes() && !name.is_empty() {
                return self.read_member(within, index);
            }
            if !member_name.is_empty() || nesting == 0 {
                continue;
            }
            let (outer, type_id) = self.read_member(within, index)?;
            let Some(anonymous) = self.resolve(type_id) else {
                continue;
            };
            if let Some((inner, type_id)) = self.find_member(&anonymous, name, visits, nesting - 1)
            {
                let bit_offset = outer.bit_offset.checked_add(inner.bit_offset)?;
                return Some((
                    Member {
                        bit_offset,
                        ..inner
                    },
                    type_id,
                ));
            }
        }
        None
    }

    fn read_member(&self, within: &Record, index: usize) -> Option<(Member, u32)> {
        let type_id = self.trailing(within, index * 3 + 1)?;
        let offset = self.trailing(within, index * 3 + 2)?;
        if within.flag {
            let size = (offset >> 24) as u8;
            let member = Member {
                bit_offset: offset & 0x00ff_ffff,
                bit_size: (size != 0).then_some(size),
            };
            return Some((member, type_id));
        }
        // Without the flag a bit-field is an integer type that is narrower than its bytes.
        let (shift, bit_size) = match self.resolve(type_id) {
            Some(int) if int.kind == Kind::INT => {
                let encoding = self.trailing(&int, 0)?;
                let bits = encoding & 0xff;
                let whole = int.target.checked_mul(8)? == bits;
                (
                    (encoding >> 16) & 0xff,
                    // A bit-field of no bits would be damage: then the width is not known.
                    (!whole && bits != 0).then_some((encoding & 0xff) as u8),
                )
            }
            _ => (0, None),
        };
        let bit_offset = offset.checked_add(shift)?;
        Some((
            Member {
                bit_offset,
                bit_size,
            },
            type_id,
        ))
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Record> {
        for _ in 0..MAX_CHAIN {
            let record = self.record(id)?;
            if !record.kind.is_modifier() {
                return Some(record);
            }
            id = record.target;
        }
        None
    }

    fn prototype(&self, id: u32) -> Option<Prototype> {
        let record = self
            .record(id)
            .filter(|record| record.kind == Kind::FUNC_PROTO && record.members <= MAX_PARAMS)?;
        let params = (0..record.members)
            .map(|index| Some(self.type_text(self.trailing(&record, index * 2 + 1)?)))
            .collect::<Option<_>>()?;
        Some(Prototype {
            params,
            returns: self.type_text(record.target),
        })
    }

    /// A type the way C writes it, as far as a reader needs it.
    fn type_text(&self, mut id: u32) -> String {
        let mut before = String::new();
        let mut after = String::new();
        for _ in 0..MAX_CHAIN {
            let Some(record) = self.record(id) else {
                return format!("{before}void{after}");
            };
            match record.kind {
                Kind::PTR if after.is_empty() => after.push_str(" *"),
                Kind::PTR => after.push('*'),
                Kind::CONST => before.push_str("const "),
                Kind::VOLATILE => before.push_str("volatile "),
                Kind::RESTRICT | Kind::TYPE_TAG => {}
                Kind::ARRAY => {
                    let Some(element) = self.trailing(&record, 0) else {
                        break;
                    };
                    after.push_str("[]");
                    id = element;
                    continue;
                }
                kind => {
                    let word = match kind {
                        Kind::STRUCT => "struct ",
                        Kind::UNION => "union ",
                        Kind::FWD if record.flag => "union ",
                        Kind::FWD => "struct ",
                        Kind::ENUM | Kind::ENUM64 => "enum ",
                        Kind::FUNC_PROTO => "function",
                        _ => "",
                    };
                    let name = self.string(record.name);
                    let name = escape(&name[..name.len().min(MAX_NAME)]);
                    return format!("{before}{word}{name}{after}");
                }
            }
            id = record.target;
        }
        format!("{before}?{after}")
    }
}

//! Builds small BTF for tests, byte for byte, in this machine's byte order.

/// BTF in the making; every method that adds a type gives its id.
#[derive(Default)]
pub(crate) struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    next_id: u32,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            next_id: 1,
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// Any type: kind, kind_flag, members, size or target, and what follows.
    pub(crate) fn raw(
        &mut self,
        name: &str,
        kind: u32,
        flag: bool,
        members: u32,
        target: u32,
        trailing: &[u32],
    ) -> u32 {
        let name = self.name(name);
        let info = u32::from(flag) << 31 | kind << 24 | members;
        self.types.extend_from_slice(&[name, info, target]);
        self.types.extend_from_slice(trailing);
        self.next_id += 1;
        self.next_id - 1
    }

    pub(crate) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.raw(name, 1, false, 0, bytes, &[bytes * 8])
    }

    /// An integer of `bits` bits that begins at bit `shift`: how old BTF writes bit-fields.
    pub(crate) fn narrow_int(&mut self, bytes: u32, shift: u32, bits: u32) -> u32 {
        self.raw("", 1, false, 0, bytes, &[shift << 16 | bits])
    }

    pub(crate) fn pointer(&mut self, target: u32) -> u32 {
        self.raw("", 2, false, 0, target, &[])
    }

    pub(crate) fn constant(&mut self, target: u32) -> u32 {
        self.raw("", 10, false, 0, target, &[])
    }

    pub(crate) fn typedef(&mut self, name: &str, target: u32) -> u32 {
        self.raw(name, 8, false, 0, target, &[])
    }

    /// Members are (name, type, bit offset).
    pub(crate) fn structure(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.aggregate(4, name, false, members)
    }

    pub(crate) fn union(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.aggregate(5, name, false, members)
    }

    /// Members are (name, type, bit offset, bits), bits 0 for a whole member.
    pub(crate) fn bit_fields(&mut self, name: &str, members: &[(&str, u32, u32, u32)]) -> u32 {
        let members: Vec<_> = members
            .iter()
            .map(|&(name, id, offset, bits)| (name, id, bits << 24 | offset))
            .collect();
        self.aggregate(4, name, true, &members)
    }

    fn aggregate(
        &mut self,
        kind: u32,
        name: &str,
        flag: bool,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut trailing = Vec::new();
        for &(name, id, offset) in members {
            trailing.extend_from_slice(&[self.name(name), id, offset]);
        }
        self.raw(name, kind, flag, members.len() as u32, 0, &trailing)
    }

    pub(crate) fn prototype(&mut self, params: &[u32], returns: u32) -> u32 {
        let trailing: Vec<u32> = params.iter().flat_map(|&id| [0, id]).collect();
        self.raw("", 13, false, params.len() as u32, returns, &trailing)
    }

    pub(crate) fn function(&mut self, name: &str, params: &[u32], returns: u32) -> u32 {
        let prototype = self.prototype(params, returns);
        self.raw(name, 12, false, 0, prototype, &[])
    }

    /// The finished bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let types = self.types.len() as u32 * 4;
        let mut out = Vec::new();
        out.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        for word in [24, 0, types, types, self.strings.len() as u32] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        for word in &self.types {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(&self.strings);
        out
    }
}

//! An rpm header as the database stores it (without the lead and magic of package files): a count of
//! index entries, a length of data, the entries, the data; every number in network order.

const NAME: u32 = 1000;
const DIRINDEXES: u32 = 1116;
const BASENAMES: u32 = 1117;
const DIRNAMES: u32 = 1118;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;

/// Bytes of an index entry: tag, type, offset into the data, count.
const ENTRY: usize = 16;

/// A header, checked to hold its index and data.
#[derive(Debug)]
pub(super) struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn parse(blob: &'a [u8]) -> Option<Self> {
        let entries = usize::try_from(u32_at(blob, 0)?).ok()?;
        let data_len = usize::try_from(u32_at(blob, 4)?).ok()?;
        let (index, data) = blob
            .get(8..)?
            .split_at_checked(entries.checked_mul(ENTRY)?)?;
        Some(Self {
            index,
            data: data.get(..data_len)?,
        })
    }

    /// The package's name, without version.
    pub(super) fn name(&self) -> Option<&'a [u8]> {
        let (data, _) = self.find(NAME, STRING)?;
        strings(data, 1).next()
    }

    /// Directory (with its closing slash) and name of the package's file number `idx`.
    pub(super) fn file(&self, idx: usize) -> Option<(&'a [u8], &'a [u8])> {
        let (bases, count) = self.find(BASENAMES, STRING_ARRAY)?;
        let base = strings(bases, count).nth(idx)?;
        let (indexes, count) = self.find(DIRINDEXES, INT32)?;
        let dir = (idx < count).then(|| u32_at(indexes, idx.checked_mul(4)?))??;
        let (dirs, count) = self.find(DIRNAMES, STRING_ARRAY)?;
        let dir = strings(dirs, count).nth(usize::try_from(dir).ok()?)?;
        Some((dir, base))
    }

    /// The data of a tag from its start on, and its count of elements.
    fn find(&self, tag: u32, kind: u32) -> Option<(&'a [u8], usize)> {
        let entry = self
            .index
            .chunks_exact(ENTRY)
            .find(|entry| u32_at(entry, 0) == Some(tag) && u32_at(entry, 4) == Some(kind))?;
        let offset = usize::try_from(u32_at(entry, 8)?).ok()?;
        let count = usize::try_from(u32_at(entry, 12)?).ok()?;
        Some((self.data.get(offset..)?, count))
    }
}

/// NUL-terminated strings; one without its NUL is none.
fn strings(data: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    data.split_inclusive(|&b| b == 0)
        .map_while(|text| text.strip_suffix(b"\0"))
        .take(count)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::{any, proptest};

    use super::{BASENAMES, DIRINDEXES, DIRNAMES, Header, INT32, NAME, STRING, STRING_ARRAY};

    /// A header as rpm would write it.
    pub(in super::super) fn header(name: &str, files: &[(&str, &str)]) -> Vec<u8> {
        let text = |items: Vec<&str>| items.iter().map(|i| format!("{i}\0")).collect::<String>();
        let dirs = text(files.iter().map(|(dir, _)| *dir).collect());
        let bases = text(files.iter().map(|(_, base)| *base).collect());
        let count = u32::try_from(files.len()).expect("few");
        let indexes: Vec<u8> = (0..count).flat_map(u32::to_be_bytes).collect();
        let parts = [
            (NAME, STRING, 1, format!("{name}\0").into_bytes()),
            (DIRINDEXES, INT32, count, indexes),
            (BASENAMES, STRING_ARRAY, count, bases.into_bytes()),
            (DIRNAMES, STRING_ARRAY, count, dirs.into_bytes()),
        ];
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, kind, count, content) in parts {
            while kind == INT32 && data.len() % 4 != 0 {
                data.push(0);
            }
            let offset = u32::try_from(data.len()).expect("small");
            index.extend(
                [tag, kind, offset, count]
                    .iter()
                    .flat_map(|n| n.to_be_bytes()),
            );
            data.extend(content);
        }
        let lengths = [index.len() / 16, data.len()].map(|n| u32::try_from(n).expect("small"));
        let mut blob: Vec<u8> = lengths.iter().flat_map(|n| n.to_be_bytes()).collect();
        blob.extend(index);
        blob.extend(data);
        blob
    }

    #[test]
    fn files_have_directories() {
        let blob = header("nginx-core", &[("/etc/", "nginx"), ("/usr/sbin/", "nginx")]);
        let parsed = Header::parse(&blob).expect("header");
        assert_eq!(parsed.name(), Some(&b"nginx-core"[..]));
        assert_eq!(parsed.file(1), Some((&b"/usr/sbin/"[..], &b"nginx"[..])));
        assert_eq!(parsed.file(2), None);
    }

    proptest! {
        #[test]
        fn no_blob_panics(
            at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<proptest::sample::Index>()
        ) {
            let mut blob = header("x", &[("/a/", "b"), ("/c/", "d")]);
            let at = at.index(blob.len());
            blob[at] = byte;
            for blob in [&blob[..], &blob[..cut.index(blob.len())]] {
                if let Some(header) = Header::parse(blob) {
                    let _ = (header.name(), header.file(0), header.file(1), header.file(usize::MAX));
                }
            }
        }
    }
}

//! Who we are to a NATS server: a token, a password, or a key that signs what the server asks.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value};

/// A way to log in. Shows nothing of itself.
pub enum Login {
    /// A token.
    Token(String),
    /// A user with a password.
    Password(String, String),
    /// A key alone.
    Key(Key),
    /// A key, and an account's word for it.
    Credentials(String, Key),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Login {
    /// Reads a file of credentials, as `nsc generate creds` writes it, or of a key's seed alone.
    ///
    /// # Errors
    /// It is neither. Does not quote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let seed = part(text, "USER NKEY SEED").unwrap_or(text.trim());
        let key = Key::parse(seed)?;
        Ok(match part(text, "NATS USER JWT") {
            Some(jwt) => Self::Credentials(jwt.to_owned(), key),
            None => Self::Key(key),
        })
    }

    /// What is said of it to a server that asks for this to be signed.
    pub(super) fn say(&self, nonce: &str, options: &mut Map<String, Value>) {
        let mut add = |key: &str, value: String| options.insert(key.to_owned(), value.into());
        match self {
            Self::Token(token) => drop(add("auth_token", token.clone())),
            Self::Password(user, password) => {
                add("user", user.clone());
                add("pass", password.clone());
            }
            Self::Key(key) => {
                add("nkey", key.public());
                add("sig", key.sign(nonce));
            }
            Self::Credentials(jwt, key) => {
                add("jwt", jwt.clone());
                add("sig", key.sign(nonce));
            }
        }
    }
}

/// What is between `-----BEGIN X-----` and the line after it.
fn part<'t>(text: &'t str, what: &str) -> Option<&'t str> {
    let begin = format!("BEGIN {what}");
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.trim_matches('-') == begin)?;
    lines.next().filter(|line| !line.is_empty())
}

/// A key of Ed25519.
pub struct Key(Ed25519KeyPair);

/// The first byte of a seed; the kind of key is in the bits after its five.
const SEED: u8 = 18 << 3;
/// A key of a user.
const USER: u8 = 20 << 3;

impl Key {
    /// Reads a seed: `SU…`.
    fn parse(seed: &str) -> Result<Self, String> {
        let wrong =
            || "expected the seed of a user's key (SU…), or a file of credentials".to_owned();
        let bytes = base32(seed).ok_or_else(wrong)?;
        let (rest, check) = bytes.split_last_chunk::<2>().ok_or_else(wrong)?;
        let [first, second, seed @ ..] = rest else {
            return Err(wrong());
        };
        let kind = (first & 7) << 5 | (second & 0xf8) >> 3;
        if first & 0xf8 != SEED || kind != USER || u16::from_le_bytes(*check) != crc(rest) {
            return Err(wrong());
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        pair.map(Self).map_err(|_| wrong())
    }

    fn public(&self) -> String {
        let mut bytes = vec![USER];
        bytes.extend_from_slice(self.0.public_key().as_ref());
        bytes.extend_from_slice(&crc(&bytes).to_le_bytes());
        to_base32(&bytes)
    }

    fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sign(nonce.as_bytes()))
    }
}

/// CRC-16 of XMODEM.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            match crc & 0x8000 == 0 {
                true => crc << 1,
                false => crc << 1 ^ 0x1021,
            }
        })
    })
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn to_base32(bytes: &[u8]) -> String {
    let (mut bits, mut count, mut text) = (0_u32, 0, String::new());
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(ALPHABET[(bits >> count & 31) as usize].into());
        }
    }
    if count > 0 {
        text.push(ALPHABET[(bits << (5 - count) & 31) as usize].into());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Key, Login, base32, crc, to_base32};

    /// Of the documentation of nkeys; of nobody.
    const SEED: &str = "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU";
    const PUBLIC: &str = "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L";

    #[test]
    fn a_seed_has_its_public_key() {
        assert_eq!(
            Key::parse(SEED).map(|key| key.public()).as_deref(),
            Ok(PUBLIC)
        );
        for wrong in [
            "",
            "SU",
            PUBLIC,
            "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBA",
        ] {
            assert!(Key::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_of_credentials_has_both_parts() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n\
             *************** IMPORTANT ***************\n-----BEGIN USER NKEY SEED-----\n{SEED}\n\
             ------END USER NKEY SEED------\n"
        );
        let Ok(Login::Credentials(jwt, key)) = Login::parse(&text) else {
            panic!("no credentials")
        };
        assert_eq!(
            (jwt.as_str(), key.public().as_str()),
            ("eyJ0.eyJq.c2ln", PUBLIC)
        );
        assert!(matches!(Login::parse(SEED), Ok(Login::Key(_))));
        let wrong = Login::parse("hunter2").expect_err("neither");
        assert!(!wrong.contains("hunter2"));
    }

    #[test]
    fn checksums_and_letters_are_those_of_others() {
        assert_eq!(crc(b"123456789"), 0x31c3);
        assert_eq!(to_base32(b"foobar"), "MZXW6YTBOI");
        assert_eq!(base32("MZXW6YTBOI").as_deref(), Some(b"foobar".as_slice()));
    }
}

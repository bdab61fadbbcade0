//! Who we are to a Kafka cluster: a password that is said (PLAIN), or proven without being said (SCRAM, RFC 5802). Pure.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// A broker that asks for fewer rounds gives the password away, says RFC 7677 …
const LEAST_ROUNDS: u32 = 4_096;
/// … and one that asks for more keeps us busy.
const MOST_ROUNDS: u32 = 1_000_000;
/// Longest message of a login.
const MESSAGE: usize = 4_096;

/// How a password is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// As it is: TLS alone protects it.
    Plain,
    /// As a proof, by SHA-256.
    Sha256,
    /// As a proof, by SHA-512.
    Sha512,
}

impl Mechanism {
    /// Every one, with its name in the configuration.
    pub const ALL: [(&'static str, Self); 3] = [
        ("plain", Self::Plain),
        ("scram-sha-256", Self::Sha256),
        ("scram-sha-512", Self::Sha512),
    ];

    /// Its registered name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }
}

/// A way to log in. Shows nothing of itself.
pub struct Login {
    /// How.
    pub mechanism: Mechanism,
    /// User.
    pub user: String,
    /// Password, as the cluster has it: no letters are made alike.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Login {
    /// The one message of PLAIN.
    pub(super) fn plain(&self) -> Vec<u8> {
        format!("\0{}\0{}", self.user, self.password).into_bytes()
    }
}

/// A proof under way.
pub(super) struct Proof {
    hash: Hash,
    password: String,
    nonce: String,
    /// Our first message without what is about the channel.
    first: String,
}

/// What the broker's last word must be, if it knows the password too.
pub(super) struct Expected {
    key: hmac::Key,
    said: String,
}

#[derive(Clone, Copy)]
struct Hash {
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
    digest: &'static digest::Algorithm,
}

impl Proof {
    /// With a word of ours that nobody else can foresee; nothing for a mechanism that proves nothing.
    pub(super) fn new(login: &Login, nonce: String) -> Option<Self> {
        let hash = match login.mechanism {
            Mechanism::Plain => return None,
            Mechanism::Sha256 => Hash {
                hmac: hmac::HMAC_SHA256,
                pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256,
                digest: &digest::SHA256,
            },
            Mechanism::Sha512 => Hash {
                hmac: hmac::HMAC_SHA512,
                pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512,
                digest: &digest::SHA512,
            },
        };
        let user = login.user.replace('=', "=3D").replace(',', "=2C");
        Some(Self {
            hash,
            password: login.password.clone(),
            first: format!("n={user},r={nonce}"),
            nonce,
        })
    }

    /// What is said first.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// What is said to the broker's first message, and what it has to say then.
    ///
    /// # Errors
    /// It is none, or asks for what nobody should do.
    pub(super) fn answer(&self, said: &[u8]) -> Result<(String, Expected), &'static str> {
        const WRONG: &str = "its part of the login is not understood";
        let said = text(said).ok_or(WRONG)?;
        let mut fields = said.split(',');
        let mut field = |name| fields.next().and_then(|field| field.strip_prefix(name));
        let nonce = field("r=").ok_or(WRONG)?;
        let salt = field("s=").and_then(|salt| STANDARD.decode(salt).ok());
        let rounds = field("i=").and_then(|rounds| rounds.parse().ok());
        let (salt, rounds): (_, u32) = salt.zip(rounds).ok_or(WRONG)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its part of the login is to somebody else");
        }
        let rounds = Some(rounds)
            .filter(|rounds| (LEAST_ROUNDS..=MOST_ROUNDS).contains(rounds))
            .and_then(NonZeroU32::new)
            .ok_or("it asks for too few or too many rounds in the login")?;
        let mut salted = vec![0; self.hash.digest.output_len()];
        pbkdf2::derive(
            self.hash.pbkdf2,
            rounds,
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac, key), text);
        // `biws` is `n,,`: nothing is said of the channel.
        let last = format!("c=biws,r={nonce}");
        let all = format!("{},{said},{last}", self.first);
        let client = sign(&salted, b"Client Key");
        let stored = digest::digest(self.hash.digest, client.as_ref());
        let signature = sign(stored.as_ref(), all.as_bytes());
        let proof: Vec<u8> = client
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, signature)| key ^ signature)
            .collect();
        let expected = Expected {
            key: hmac::Key::new(self.hash.hmac, sign(&salted, b"Server Key").as_ref()),
            said: all,
        };
        Ok((format!("{last},p={}", STANDARD.encode(proof)), expected))
    }
}

impl Expected {
    /// Is this its last word? Then it knows the password, or what is made of it.
    pub(super) fn is(&self, said: &[u8]) -> bool {
        let word = text(said).and_then(|said| said.strip_prefix("v="));
        let word = word.map(|word| word.split(',').next().unwrap_or_default());
        let word = word.and_then(|word| STANDARD.decode(word).ok());
        word.is_some_and(|word| hmac::verify(&self.key, self.said.as_bytes(), &word).is_ok())
    }
}

fn text(said: &[u8]) -> Option<&str> {
    let short = Some(said).filter(|said| said.len() <= MESSAGE)?;
    std::str::from_utf8(short).ok()
}

#[cfg(test)]
mod tests {
    use super::{Login, Mechanism, Proof};

    fn login(mechanism: Mechanism) -> Login {
        Login {
            mechanism,
            user: "user".to_owned(),
            password: "pencil".to_owned(),
        }
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn a_proof_is_that_of_the_standard() {
        let login = login(Mechanism::Sha256);
        let proof = Proof::new(&login, "rOprNGfwEbeRWgbNEkqO".to_owned()).expect("a proof");
        assert_eq!(proof.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let said = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (answer, expected) = proof.answer(said).expect("understood");
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(expected.is(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!expected.is(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!expected.is(b"e=invalid-proof") && !expected.is(b"") && !expected.is(b"v="));
    }

    #[test]
    fn what_gives_a_password_away_is_not_answered() {
        let proof = Proof::new(&login(Mechanism::Sha512), "abc".to_owned()).expect("a proof");
        assert!(proof.answer(b"r=abcd,s=c2FsdA==,i=4096").is_ok());
        for said in [
            b"".as_slice(),
            b"r=abcd,s=c2FsdA==",
            b"r=abcd,s=c2FsdA==,i=1",
            b"r=abcd,s=c2FsdA==,i=4294967295",
            b"r=abcd,s=%,i=4096",
            b"r=xyzd,s=c2FsdA==,i=4096",
            // No word of its own.
            b"r=abc,s=c2FsdA==,i=4096",
            b"\xff\xfe",
        ] {
            assert!(proof.answer(said).is_err(), "{said:?}");
        }
    }

    #[test]
    fn no_name_breaks_out_of_its_field_and_no_login_shows_itself() {
        let mut login = login(Mechanism::Sha256);
        login.user = "a,r=x".to_owned();
        let proof = Proof::new(&login, "n".to_owned()).expect("a proof");
        assert_eq!(proof.first(), "n,,n=a=2Cr=3Dx,r=n");
        assert_eq!(login.plain(), b"\0a,r=x\0pencil");
        assert!(!format!("{login:?}").contains("pencil"));
        login.mechanism = Mechanism::Plain;
        assert!(Proof::new(&login, String::new()).is_none());
    }
}

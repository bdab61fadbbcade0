//! The signature of a webhook: HMAC-SHA256 over the time and the body, so that a receiver knows who sent it, that
//! nobody changed it, and that it is not an old one sent again. Pure.

use ring::hmac::{HMAC_SHA256, Key, sign};

/// The header that carries it.
pub const HEADER: &str = "X-Portwatch-Signature";

/// The value of the header: `t=` and the time in seconds since 1970, `v1=` and the HMAC in hexadecimal digits. What
/// is signed is the time in decimal digits, a point, and the body.
#[must_use]
pub fn header(secret: &str, unix_seconds: i64, body: &[u8]) -> String {
    let signed = [format!("{unix_seconds}.").as_bytes(), body].concat();
    format!("t={unix_seconds},v1={}", hmac(secret.as_bytes(), &signed))
}

fn hmac(secret: &[u8], data: &[u8]) -> String {
    let tag = sign(&Key::new(HMAC_SHA256, secret), data);
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{header, hmac};

    /// Cases 2 and 6 of RFC 4231: a short key, and one that is longer than a block.
    #[test]
    fn it_is_the_hmac_of_the_standard() {
        assert_eq!(
            hmac(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(
            hmac(&[0xaa; 131], text),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    /// Computed by `printf '1795341600.{"id":1}' | openssl dgst -sha256 -hmac s3cret`.
    #[test]
    fn time_and_body_are_signed() {
        assert_eq!(
            header("s3cret", 1_795_341_600, br#"{"id":1}"#),
            "t=1795341600,v1=bcd065c8ddae7516312b8d4c4ca19641e67fffd93782d599b8ab80f78ad55bd7"
        );
    }
}

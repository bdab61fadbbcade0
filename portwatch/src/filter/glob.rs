//! Glob matching: `*` stands for any run of characters, `/` included; everything else for itself.

/// Does all of the text fit the pattern? Time grows with the length of the text, whatever the pattern:
/// the pieces between the stars are searched once each, from left to right.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        match text.split_once(piece) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, text) in [
            ("/tmp/*", "/tmp/a/b"),
            ("*", ""),
            ("**", "x"),
            ("a*a", "aa"),
            ("*.so*", "libc.so.6"),
            ("a*b*c", "aXbbYc"),
            ("*ab", "aab"),
            ("ü*", "über"),
        ] {
            assert!(matches(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in [
            ("/tmp/*", "/var/tmp/x"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("", "x"),
            ("x", "xx"),
            ("*ab*ab", "ab"),
        ] {
            assert!(!matches(pattern, text), "{pattern} should not match {text}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_the_text() {
        let pattern = "*a".repeat(4_000) + "b";
        assert!(!matches(&pattern, &"a".repeat(100_000)));
    }
}

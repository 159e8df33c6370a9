//! Random ids and secrets.

use std::fmt::Write as _;

/// A random UUID, version 4, as text.
pub(crate) fn uuid(rng: &mut fastrand::Rng) -> String {
    let bits = (rng.u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    parts.join("-")
}

/// Random letters and digits.
pub(crate) fn token(rng: &mut fastrand::Rng, prefix: &str, length: usize) -> String {
    let mut text = String::from(prefix);
    for _ in 0..length {
        let _ = write!(text, "{}", rng.alphanumeric());
    }
    text
}

/// A random decimal number with exactly `digits` digits.
pub(crate) fn number(rng: &mut fastrand::Rng, digits: usize) -> String {
    let mut text = String::from(rng.char('1'..='9'));
    while text.len() < digits {
        text.push(rng.digit(10));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let id = uuid(&mut rng);
            let bytes = id.as_bytes();
            assert_eq!((id.len(), bytes[8], bytes[13], bytes[14]), (36, b'-', b'-', b'4'), "{id}");
            assert!(b"89ab".contains(&bytes[19]), "{id}");
        }
    }

    #[test]
    fn a_number_has_its_digits() {
        let mut rng = fastrand::Rng::with_seed(1);
        for digits in [1, 2, 19] {
            let text = number(&mut rng, digits);
            assert!(text.len() == digits && !text.starts_with('0'), "{text}");
        }
    }
}
